"""The cast of a video: its things, the person's contacts with each of them, and the moments when these change."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.data.puppets.things import THINGS
from training.data.puppets.ties import CONTACTING, PORTABLE, joint_shares
from training.data.puppets.world import World

SUPPORTS: Final = frozenset(("sitting_on", "lying_on", "standing_on"))
"""Contacts that carry the person's weight; the thing lies beneath them."""
GRIPS: Final = frozenset(("holding", "drinking_from", "eating", "carrying", "twisting"))
"""Contacts in which the thing moves with a hand."""
REACHES: Final = frozenset(("touching", "wiping", "writing_on"))
"""Contacts in which a hand goes to the thing where it is."""
GARBS: Final = frozenset(("wearing", "covered_by", "have_it_on_the_back"))
"""Contacts in which the thing moves with the body."""
TOLD_BY_MOTION: Final = frozenset(("drinking_from", "eating", "carrying", "twisting", "wiping", "writing_on"))
"""Contacts whose still cue may be left out."""

_HANDS: Final = {
    "holding": 1, "drinking_from": 1, "eating": 1, "carrying": 2, "twisting": 2, "touching": 1, "wiping": 1,
    "writing_on": 1,
}  # fmt: skip
_UPRIGHT: Final = frozenset(("leaning_on", "carrying", "other_relationship"))
_BULKY: Final = frozenset(
    ("bed", "sofa/couch", "closet/cabinet", "doorway", "door", "refrigerator", "table", "shelf", "floor")
)


@dataclass(frozen=True)
class Habit:
    """The constant features of every use of one thing.

    across, up: shares of the body.
    angle: in radians.
    by_side: true where it is held in a hanging hand beside the body rather than before it.
    reclined: true where the sitting person leans back against it.
    period: seconds of one repetition of a movement.
    """

    across: float
    up: float
    angle: float
    shear: float
    by_side: bool
    reclined: bool
    cue_left_out: bool
    period: float
    phase: float


@dataclass(frozen=True)
class Member:
    """One annotated thing.

    name: its class.
    contacts: its main contact in each act.
    """

    name: str
    contacts: tuple[str, ...]
    habit: Habit


@dataclass(frozen=True)
class Act:
    """A stretch of time without changes.

    start: the second at which it begins.
    target: index of the member that the person looks at; None to look away from all of them.
    hidden: true where the face is hidden.
    """

    start: float
    target: int | None
    hidden: bool


@dataclass(frozen=True)
class Cast:
    """All members and acts of a video."""

    members: tuple[Member, ...]
    acts: tuple[Act, ...]


def clash(names: list[str], contacts: list[str]) -> bool:
    """Tells whether the contacts are too many for one body at once."""
    supports = sum(contact in SUPPORTS for contact in contacts)
    load = sum(
        1 if (name, contact) == ("doorknob", "twisting") else _HANDS.get(contact, 0)
        for name, contact in zip(names, contacts, strict=True)
    )
    single = ("leaning_on", "covered_by", "have_it_on_the_back", "other_relationship", "wearing")
    raised = contacts.count("drinking_from") + contacts.count("eating")
    bulky = sum(name in _BULKY for name in names)
    return (
        supports > 1
        or load > 2
        or raised > 1
        or bulky > 2
        or any(contacts.count(contact) > 1 for contact in single)
        or (supports == 1 and "standing_on" not in contacts and any(contact in _UPRIGHT for contact in contacts))
        or ("leaning_on" in contacts and any(contact in ("carrying", "other_relationship") for contact in contacts))
        or ("carrying" in contacts and "standing_on" in contacts and names[contacts.index("standing_on")] != "floor")
        or len(set(names)) < len(names)
    )


def draw_cast(world: World, rng: np.random.Generator, seconds: float) -> Cast:
    """Draws a random cast whose acts begin within the first `seconds`."""
    table = joint_shares(world.unusual, world.rarest_share)
    names, contacts = _opening(world, rng)
    changing = rng.random() < world.changes
    starts = [0.0]
    scripts = [contacts]
    moment = rng.uniform(0.6, 2.4)
    while changing and moment < seconds:
        following = list(scripts[-1])
        if rng.random() < 0.62:  # otherwise only the gaze changes
            following = _varied(names, following, table, rng)
        starts.append(moment)
        scripts.append(following)
        moment += rng.uniform(1.3, 3.2)
    members = tuple(
        Member(name, tuple(script[index] for script in scripts), draw_habit(world, rng, name))
        for index, name in enumerate(names)
    )
    return Cast(members, _acts(world, rng, starts, scripts))


def _opening(world: World, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Draws names and contacts of the first act."""
    flat = joint_shares(world.unusual, world.rarest_share).ravel().cumsum()
    count = 1 + int(rng.choice(3, p=np.array(world.object_counts) / sum(world.object_counts)))
    names: list[str] = []
    contacts: list[str] = []
    while len(names) < count:
        row, column = divmod(int(np.searchsorted(flat, rng.random() * flat[-1], side="right")), len(CONTACTING))
        name, contact = THINGS[row], CONTACTING[column]
        if not clash([*names, name], [*contacts, contact]):
            names.append(name)
            contacts.append(contact)
    return names, contacts


def _varied(names: list[str], contacts: list[str], table: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Returns the contacts with one of them exchanged for another that its class allows."""
    for _ in range(12):
        index = int(rng.integers(len(names)))
        row = table[THINGS.index(names[index])]
        contact = CONTACTING[int(rng.choice(len(CONTACTING), p=row / row.sum()))]
        following = [*contacts[:index], contact, *contacts[index + 1 :]]
        rooted = any(other in REACHES or other in ("leaning_on", "other_relationship") for other in following)
        moves = (contact in SUPPORTS) != (contacts[index] in SUPPORTS)
        if contact != contacts[index] and not clash(names, following) and not (moves and rooted):
            return following
    return contacts


def _acts(world: World, rng: np.random.Generator, starts: list[float], scripts: list[list[str]]) -> tuple[Act, ...]:
    """Draws the gaze of every act; it changes wherever the contacts stay."""
    acts: list[Act] = []
    for index, start in enumerate(starts):
        for _ in range(8):
            hidden = bool(rng.random() < world.hidden_face)
            looks = rng.random() < world.looks
            target = int(rng.integers(len(scripts[0]))) if looks else None
            if (
                not acts
                or scripts[index] != scripts[index - 1]
                or (target, hidden) != (acts[-1].target, acts[-1].hidden)
            ):
                break
        acts.append(Act(start, target, hidden))
    return tuple(acts)


def draw_habit(world: World, rng: np.random.Generator, name: str) -> Habit:
    """Draws the habit of a thing, which holds throughout the video."""
    loose = name in PORTABLE and name not in ("broom", "vacuum", "light")
    turn, slant = (world.rotation, world.shear) if loose else (world.rotation / 3.0, world.shear / 3.0)
    return Habit(
        across=rng.uniform(0.0, 0.55),
        up=rng.uniform(0.25, 0.7) if rng.random() < 0.87 else rng.uniform(0.9, 1.05),
        angle=float(np.radians(np.clip(rng.normal(0.0, turn), -2.2 * turn, 2.2 * turn))),
        shear=float(np.clip(rng.normal(0.0, slant), -0.2, 0.2)),
        by_side=bool(rng.random() < 0.1),
        reclined=bool(rng.random() < 0.12),
        cue_left_out=bool(rng.random() < world.motion_only),
        period=rng.uniform(1.2, 2.0),
        phase=rng.random(),
    )

"""Stories that only the whole video tells: a thing is fetched or put away, beside its twin that nobody uses.

Thing and twin look the same and lie on either side of the person, at distances drawn alike, and the person looks at
neither. Where the thing rests, nothing but what happens with it seconds before or after says that it matters.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from training.data.puppets.casting import Act, Cast, Member, clash, draw_habit
from training.data.puppets.relations import Box
from training.data.puppets.scenery import Extra, common_area
from training.data.puppets.staging import Home, Stage
from training.data.puppets.things import THINGS
from training.data.puppets.ties import CONTACTING, joint_shares
from training.data.puppets.world import World

FETCHED: Final = 0
"""Index of the thing among the members of such a story."""

_THINGS: Final = (
    "bag", "book", "box", "cup/glass/bottle", "dish", "food", "groceries", "laptop", "medicine", "paper/notebook",
    "phone/camera", "sandwich", "shoe", "towel",
)  # fmt: skip
"""Things that a hand lifts, and of which two find room beside a person."""
_RESTING: Final = "not_contacting"
_USED: Final = "holding"
_COURSES: Final = ((_RESTING, _USED), (_USED, _RESTING), (_RESTING, _USED, _RESTING))
_CHANGES: Final = {1: ((0.25, 0.75),), 2: ((0.2, 0.4), (0.6, 0.8))}
"""Shares of the video within which each of so many changes comes, so that every part of a course can be seen."""
_GAPS: Final = (4.0, 18.0)
"""Least and largest gap between the body and either thing, in units: that of related things and of distractors."""
_LAYOUTS: Final = 16


def draw_fetching_cast(world: World, rng: np.random.Generator, seconds: float) -> Cast:
    """Draws a thing that is used for a part of the first `seconds`, and perhaps another member that stays as it is."""
    course = _COURSES[int(rng.integers(len(_COURSES)))]
    table = joint_shares(world.unusual, world.rarest_share)
    held = np.array([table[THINGS.index(name), CONTACTING.index(_USED)] for name in _THINGS])
    names, contacts = [_THINGS[int(rng.choice(len(_THINGS), p=held / held.sum()))]], [_USED]
    if rng.random() < 0.5:
        _add_companion(table, names, contacts, rng)
    starts = [0.0, *(rng.uniform(*share) * seconds for share in _CHANGES[len(course) - 1])]
    members = [Member(names[FETCHED], course, draw_habit(world, rng, names[FETCHED]))]
    members += [
        Member(name, (contact,) * len(course), draw_habit(world, rng, name))
        for name, contact in zip(names[1:], contacts[1:], strict=True)
    ]
    acts = tuple(
        Act(
            start,
            _target(world, rng, len(members), resting=contact == _RESTING),
            bool(rng.random() < world.hidden_face),
        )
        for start, contact in zip(starts, course, strict=True)
    )
    return Cast(tuple(members), acts)


def _add_companion(table: np.ndarray, names: list[str], contacts: list[str], rng: np.random.Generator) -> None:
    """Adds a member that the person can relate to while it holds the first; none where eight draws find none."""
    flat = table.ravel().cumsum()
    for _ in range(8):
        row, column = divmod(int(np.searchsorted(flat, rng.random() * flat[-1], side="right")), len(CONTACTING))
        name, contact = THINGS[row], CONTACTING[column]
        if contact not in ("lying_on", "carrying") and not clash([*names, name], [*contacts, contact]):
            names.append(name)
            contacts.append(contact)
            return


def _target(world: World, rng: np.random.Generator, members: int, *, resting: bool) -> int | None:
    """Draws whom the person looks at; never at the thing while it rests."""
    first = 1 if resting else 0
    if rng.random() >= world.looks or members <= first:
        return None
    return int(rng.integers(first, members))


def place_twins(world: World, cast: Cast, stage: Stage, rng: np.random.Generator) -> tuple[Stage, Extra]:
    """Puts the thing on one side of the person and its twin on the other; returns the stage and the twin."""
    member, prop, posture, build = cast.members[FETCHED], stage.props[FETCHED], stage.postures[0], stage.build
    width, height = prop.size
    half = build.shoulder + build.limb * 2.6 + (build.leg * 0.2 if posture.kind == "sit" else 0.0)
    chest = posture.hip_y - build.torso * 0.6
    others: list[Box] = [
        (home.x - size[0] / 2, home.y - size[1] / 2, home.x + size[0] / 2, home.y + size[1] / 2)
        for home, size in zip(stage.homes[1:], (other.size for other in stage.props[1:]), strict=True)
    ]
    side = 1.0 if rng.random() < 0.5 else -1.0
    best, least = ((posture.x, chest), (posture.x, chest)), float("inf")
    for attempt in range(_LAYOUTS):
        y = rng.uniform(chest, max(min(posture.ground, 124.0) - height / 2.0, chest + 1.0))
        places = tuple(
            (posture.x + way * (half + rng.uniform(*_GAPS) + width / 2.0), y + rng.uniform(-2.0, 2.0))
            for way in (side, -side)
        )
        cost = 0.01 * attempt
        for x, level in places:
            box = (x - width / 2.0, level - height / 2.0, x + width / 2.0, level + height / 2.0)
            cost += 2.0 * (1.0 - common_area(box, (0.0, 0.0, world.unit_width, 128.0)) / (width * height))
            cost += sum(common_area(box, other) for other in others) / (width * height)
        if cost < least:
            best, least = (places[0], places[1]), cost
    thing, twin = best
    homes = (Home(*thing, in_front=False, inside=False), *stage.homes[1:])
    extra = Extra(member.name, prop, *twin, member.habit.angle, 0.0, member.habit.shear)
    return replace(stage, homes=homes), extra

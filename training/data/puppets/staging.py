"""The layout of a video: homes of things, and postures and hands of every act."""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from training.data.puppets.casting import GARBS, GRIPS, REACHES, SUPPORTS, Cast, Member
from training.data.puppets.people import Build, Pose, draw_build
from training.data.puppets.relations import Box
from training.data.puppets.things import SIZES, Prop, make_prop
from training.data.puppets.ties import PORTABLE
from training.data.puppets.world import World

Site = Literal["side", "front", "behind", "above", "inside"]
Point = tuple[float, float]

_SEAT: Final = {
    "chair": 0.5, "sofa/couch": 0.52, "bed": 0.46, "table": 0.06, "floor": 0.35, "box": 0.2, "pillow": 0.25,
    "blanket": 0.2, "bag": 0.3,
}  # fmt: skip
"""Height at which one sits on a thing, from its top, as a share of its height."""
_ON_WALL: Final = frozenset(("window", "picture", "mirror", "light", "shelf", "television", "doorknob"))
_ON_FLOOR: Final = frozenset(
    (
        "bed",
        "chair",
        "closet/cabinet",
        "door",
        "doorway",
        "floor",
        "refrigerator",
        "sofa/couch",
        "table",
        "broom",
        "vacuum",
    )
)
_OFF_CENTRE: Final = {"chair": 0.2, "sofa/couch": 0.22, "table": 0.2, "bed": 0.1}
"""Distance of a sitting person from a thing's middle, as a share of its width, so that enough of it can be seen."""
_LOW: Final = frozenset(("chair", "sofa/couch", "bed"))


@dataclass(frozen=True)
class Posture:
    """The person's posture in one act; `x` of the hips, `ground` below the feet, angles in radians."""

    kind: Literal["stand", "walk", "sit", "lie"]
    x: float
    ground: float
    hip_y: float
    spine: float


@dataclass(frozen=True)
class Home:
    """The place where a thing rests: its centre, and whether it is painted over the person or encloses them."""

    x: float
    y: float
    in_front: bool
    inside: bool


@dataclass(frozen=True)
class Stage:
    """Everything of a video that does not depend on time; tuples run over the cast's members or acts.

    gaze_away: angle of the gaze of each act that has no target.
    hands: per act and member the hand it needs: 0 at -x, 1 at +x, 2 both, -1 none.
    """

    build: Build
    facing: float
    props: tuple[Prop, ...]
    homes: tuple[Home, ...]
    postures: tuple[Posture, ...]
    gaze_away: tuple[float, ...]
    hands: tuple[tuple[int, ...], ...]


def draw_stage(world: World, cast: Cast, rng: np.random.Generator) -> Stage:
    """Draws a random layout for the cast."""
    build = _draw_build(cast, rng)
    facing = 1.0 if rng.random() < 0.5 else -1.0
    acts = range(len(cast.acts))
    props = tuple(_draw_prop(world, member, build, facing, rng) for member in cast.members)
    anchor = next((i for i, m in enumerate(cast.members) if any(c in SUPPORTS for c in m.contacts)), None)
    ground = rng.uniform(113.0, 122.0)
    x = world.unit_width * rng.uniform(0.33, 0.67)
    lean_side = facing
    homes: list[Home | None] = [None] * len(cast.members)
    if anchor is not None:
        homes[anchor] = _support_home(props[anchor], cast.members[anchor], x, ground)
    postures = tuple(_posture(cast, act, build, facing, x, ground, anchor, homes, props, lean_side) for act in acts)
    placed = [_box(props[anchor], homes[anchor])] if anchor is not None else []
    order = sorted(range(len(props)), key=lambda i: -max(_rank(c) for c in cast.members[i].contacts))
    for index in order:
        if homes[index] is None:
            member = cast.members[index]
            act = max(acts, key=lambda a: _rank(member.contacts[a]))
            home = _place(
                world, member, member.contacts[act], props[index], build, postures[act], placed, lean_side, rng
            )
            homes[index] = home
            if any(c not in GRIPS and c not in GARBS for c in member.contacts):
                placed.append(_box(props[index], home))
    settled = tuple(home for home in homes if home is not None)
    hands = tuple(_assign_hands(cast, act, settled, postures[act].x, facing) for act in acts)
    away = tuple(rng.uniform(-math.pi, math.pi) for _ in acts)
    return Stage(build, facing, props, settled, postures, away, hands)


def reference_pose(build: Build, posture: Posture, facing: float) -> Pose:
    """Returns the posture with hanging hands and feet at rest, looking down."""
    hip = (posture.x, posture.hip_y)
    drop = posture.ground - posture.hip_y - build.limb * 0.5
    if posture.kind == "lie":
        head = 1.0 if posture.spine > 0.0 else -1.0
        feet = ((hip[0] - head * build.leg * 0.93, hip[1] - 3.5), (hip[0] - head * build.leg * 0.93, hip[1] + 3.5))
    elif posture.kind == "sit":
        down = min(max(drop, build.limb * 0.4), build.leg * 0.6)
        out = math.sqrt(max((build.leg * 0.8) ** 2 - down**2, 4.0)) * (0.75 if down > build.leg * 0.3 else 1.0)
        feet = ((hip[0] + facing * out, hip[1] + down), (hip[0] + facing * (out - 5.0), hip[1] + down + 1.5))
    else:
        feet = ((posture.x - build.shoulder * 0.5, hip[1] + drop), (posture.x + build.shoulder * 0.5, hip[1] + drop))
    pose = Pose.of(hip, posture.spine, feet, (hip, hip), (0.0, 1.0), 1.0, facing)
    left, right = (rest_hand(build, posture, pose, side) for side in (0, 1))
    return Pose.of(hip, posture.spine, feet, (left, right), (0.0, 1.0), 1.0, facing)


def rest_hand(build: Build, posture: Posture, pose: Pose, side: int) -> Point:
    """Returns the point at which an unused hand hangs or rests."""
    sign = 1.0 if side else -1.0
    if posture.kind == "lie":
        point = pose.body_point(build, sign * 0.8, -0.05)
    elif posture.kind == "sit":
        point = pose.hip + np.array((pose.facing * build.leg * 0.22 + sign * build.shoulder * 0.75, -build.limb * 0.6))
    else:
        shoulder = pose.shoulders(build)[side]
        point = shoulder + pose.across * (sign * build.limb * 1.6) - pose.up * (build.arm * 0.94)
    return float(point[0]), float(point[1])


def _rank(contact: str) -> int:
    """Ranks a contact by how much it binds the place of its thing."""
    if contact in SUPPORTS:
        return 4
    if contact in REACHES or contact in ("leaning_on", "other_relationship", "twisting"):
        return 3
    return 1 if contact == "not_contacting" else 0


def _draw_build(cast: Cast, rng: np.random.Generator) -> Build:
    """Draws a person small enough for all their contacts."""
    contacts = [contact for member in cast.members for contact in member.contacts]
    raised = any("standing_on" in m.contacts and m.name != "floor" for m in cast.members)
    if raised:
        return draw_build(rng, 62.0, 74.0)
    if "lying_on" in contacts:
        return draw_build(rng, 66.0, 92.0)
    return draw_build(rng, 74.0 if len(cast.members) < 3 else 66.0, 110.0 if "sitting_on" in contacts else 104.0)


def _draw_prop(world: World, member: Member, build: Build, facing: float, rng: np.random.Generator) -> Prop:
    """Draws the member's thing, fitted to the person where it must be."""
    low_width, high_width, low_height, high_height = SIZES[member.name]
    growth = float(np.clip(build.height / 92.0, 0.88, 1.12)) * rng.uniform(*world.thing_scale)
    width, height = rng.uniform(low_width, high_width) * growth, rng.uniform(low_height, high_height) * growth
    mirrored: bool | None = None
    if "lying_on" in member.contacts and member.name != "pillow":
        width = max(width, build.height * 1.02)
    if "wearing" in member.contacts and member.name != "shoe":
        width, height = build.shoulder * 3.3, build.torso * 1.14
    if "covered_by" in member.contacts:
        width, height = max(width, build.shoulder * 3.2), max(height, build.torso * 1.1)
    if "writing_on" in member.contacts and member.name != "table":
        width, height = width * 1.35, height * 1.25
    if "standing_on" in member.contacts and member.name != "floor":
        height = min(height, 118.0 - build.height)
    if member.name in ("chair", "bed", "shoe"):
        mirrored = facing < 0.0
    if member.name == "doorway":
        height = max(height, build.height * 1.04)
    return make_prop(member.name, world, rng, size=(max(width, 11.0), max(height, 12.0)), mirrored=mirrored)


def _support_home(prop: Prop, member: Member, x: float, ground: float) -> Home:
    """Returns a home under the person, on the ground."""
    low = min(ground + 3.0, 126.0) if member.name != "floor" else 126.0
    return Home(x, low - prop.size[1] / 2.0, False, False)


def _posture(
    cast: Cast,
    act: int,
    build: Build,
    facing: float,
    x: float,
    ground: float,
    anchor: int | None,
    homes: list[Home | None],
    props: tuple[Prop, ...],
    lean_side: float,
) -> Posture:
    """Returns the posture that an act's contacts ask for."""
    contacts = [member.contacts[act] for member in cast.members]
    support = contacts[anchor] if anchor is not None else ""
    home = homes[anchor] if anchor is not None else None
    if anchor is None or home is None or support not in SUPPORTS:
        if anchor is not None:  # stand beside what was or will be sat on
            x += facing * (props[anchor].size[0] * 0.3 + build.shoulder * 0.6)
        spine = lean_side * 0.26 if "leaning_on" in contacts else 0.0
        kind: Literal["stand", "walk"] = "walk" if "carrying" in contacts else "stand"
        return Posture(kind, x, ground, ground - build.leg * 0.985, spine)
    prop, member = props[anchor], cast.members[anchor]
    surface = home.y + prop.size[1] * (_SEAT.get(member.name, 0.3) - 0.5)
    if support == "sitting_on":
        spine = -facing * 0.2 if member.habit.reclined else 0.0
        return Posture(
            "sit",
            x + facing * prop.size[0] * _OFF_CENTRE.get(member.name, 0.0),
            max(ground, surface + 4.0),
            surface - build.limb * 1.2,
            spine,
        )
    if support == "lying_on":
        shift = (build.torso + 2.0 * build.head - build.leg) / 2.0
        surface = home.y - prop.size[1] * 0.3
        return Posture("lie", x - facing * shift, ground, surface - build.shoulder * 0.35, facing * math.pi / 2.0)
    feet = home.y if member.name == "floor" else home.y + prop.size[1] * (0.15 if member.name == "bed" else -0.42)
    if member.name == "chair":
        feet = home.y + prop.size[1] * 0.03
    return Posture("walk" if "carrying" in contacts else "stand", x, feet, feet - build.leg * 0.985, 0.0)


def _box(prop: Prop, home: Home | None) -> Box:
    """Returns the nominal box of a thing at home."""
    if home is None:
        return (0.0, 0.0, 0.0, 0.0)
    w, h = prop.size
    return home.x - w / 2.0, home.y - h / 2.0, home.x + w / 2.0, home.y + h / 2.0


def _sites(member: Member, contact: str) -> dict[Site, float]:
    """Returns weights of the places where the thing may rest for the given contact."""
    name = member.name
    if contact in ("leaning_on", "other_relationship"):
        return {"side": 1.0}
    if contact in ("wiping", "touching", "twisting", "writing_on"):
        if contact == "writing_on":
            return {"front": 1.0}
        if name == "table":
            return {"side": 0.15, "front": 0.85}
        if name in PORTABLE or name in _LOW:
            return {"side": 0.12, "front": 0.88}
        return {"side": 0.35, "behind": 0.65}
    if name == "doorway":
        return {"inside": 0.75, "side": 0.1, "behind": 0.15}
    if name == "closet/cabinet":
        return {"inside": 0.25, "side": 0.3, "behind": 0.45}
    if name == "light":
        return {"above": 0.7, "side": 0.3}
    if name in _ON_WALL:
        return {"above": 0.3, "side": 0.15, "behind": 0.55}
    if name == "table":
        return {"front": 0.85, "side": 0.1, "behind": 0.05}
    if name in _LOW:
        return {"side": 0.15, "behind": 0.4, "front": 0.45}
    if name in ("refrigerator", "door", "floor"):
        return {"side": 0.3, "behind": 0.7}
    return {"front": 0.9, "side": 0.08, "behind": 0.02}


def _place(
    world: World,
    member: Member,
    contact: str,
    prop: Prop,
    build: Build,
    posture: Posture,
    placed: list[Box],
    lean_side: float,
    rng: np.random.Generator,
) -> Home:
    """Returns the best of several random places: inside the frame, clear of things that are placed already."""
    sites = _sites(member, contact)
    best, least = Home(posture.x, posture.hip_y, True, False), math.inf
    names = list(sites)
    weights = np.array([sites[name] for name in names])
    site = names[0]
    for attempt in range(18):
        if attempt % 6 == 0:  # a site is given up only after several tries: easy ones would crowd out the others
            site = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        home = _candidate(world, member, contact, prop, build, posture, site, lean_side, rng)
        box = _box(prop, home)
        area = prop.size[0] * prop.size[1]
        cost = 1.6 * (1.0 - _common(box, (0.0, 0.0, world.unit_width, 128.0)) / area)
        for other in placed:
            cost += _common(box, other) / min(area, (other[2] - other[0]) * (other[3] - other[1]))
        if site == "above" and box[3] > posture.hip_y - build.torso - build.head * 0.9:
            cost += 1.0  # no room over the head
        cost += 0.01 * attempt
        if cost < least:
            best, least = home, cost
        if least < 0.12:
            break
    return best


def _candidate(
    world: World,
    member: Member,
    contact: str,
    prop: Prop,
    build: Build,
    posture: Posture,
    site: Site,
    lean_side: float,
    rng: np.random.Generator,
) -> Home:
    """Draws a random place at the given site."""
    w, h = prop.size
    chest = posture.hip_y - build.torso * 0.6
    half = build.shoulder + build.limb * 2.6
    head_top = posture.hip_y - build.torso - 2.0 * build.head
    touched = contact != "not_contacting"
    if posture.kind == "lie":
        half, chest, head_top = build.height / 2.0, posture.hip_y, posture.hip_y - build.shoulder
    elif posture.kind == "sit":
        half += build.leg * 0.2
    side = lean_side if contact == "leaning_on" else (1.0 if rng.random() < 0.5 else -1.0)
    if site == "side":
        gap = rng.uniform(0.0, 4.0) if touched else rng.uniform(*world.reach)
        if contact == "leaning_on":
            gap = build.torso * math.sin(0.26) - 1.0
        if contact == "other_relationship":
            gap = build.leg * 0.32
        x = posture.x + side * (half + gap + w / 2.0)
        if member.name in _ON_FLOOR or contact == "other_relationship":
            y = min(posture.ground + rng.uniform(-2.0, 3.0), 126.0) - h / 2.0
        elif member.name in _ON_WALL or touched:
            y = chest + rng.uniform(-6.0, 12.0)
        else:
            y = rng.uniform(chest, max(posture.ground - h / 2.0, chest + 1.0))
        return Home(x, y, bool(rng.random() < 0.5) and member.name in PORTABLE, False)
    if site == "front":
        x = posture.x + rng.uniform(-0.22, 0.22) * w
        y = posture.hip_y + rng.uniform(-0.1, 0.3) * build.torso
        if posture.kind == "lie":
            x, y = posture.x + math.copysign(build.torso * 0.5, posture.spine), posture.hip_y - h * 0.2
        elif member.name == "table":
            y = posture.hip_y + rng.uniform(-2.0, 4.0) + h / 2.0
        elif member.name in _LOW:
            y = min(posture.ground + rng.uniform(2.0, 6.0), 127.0) - h / 2.0
        elif not touched and posture.kind != "sit":
            y = rng.uniform(posture.hip_y, max(posture.ground - h / 2.0, posture.hip_y + 1.0))
        return Home(x, y, True, False)
    if site == "behind":
        x = posture.x + side * rng.uniform(0.24, 0.42) * (w + build.shoulder)
        low = posture.ground - rng.uniform(0.0, 6.0)
        y = low - h / 2.0 if member.name in _ON_FLOOR else chest + rng.uniform(-12.0, 8.0)
        return Home(x, y, False, False)
    if site == "above":
        return Home(posture.x + rng.uniform(-14.0, 14.0), head_top - rng.uniform(0.0, 5.0) - h / 2.0, False, False)
    return Home(posture.x + rng.uniform(-2.0, 2.0), posture.ground + 2.0 - h / 2.0, False, True)


def _common(a: Box, b: Box) -> float:
    """Area shared by two boxes."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def _assign_hands(cast: Cast, act: int, homes: tuple[Home, ...], x: float, facing: float) -> tuple[int, ...]:
    """Gives a hand to every member that needs one; things beside the person get the hand on their side."""
    needs = [member.contacts[act] for member in cast.members]
    hands = [-1] * len(needs)
    free = {0, 1}
    for index, contact in enumerate(needs):
        if contact == "carrying" or (contact == "twisting" and cast.members[index].name != "doorknob"):
            hands[index] = 2
            free.clear()
    for index, contact in enumerate(needs):
        if hands[index] == -1 and (contact in REACHES or contact == "twisting"):
            wanted = 1 if homes[index].x > x else 0
            hands[index] = wanted if wanted in free else 1 - wanted
            free.discard(hands[index])
    for index, contact in enumerate(needs):
        if hands[index] == -1 and contact in GRIPS:
            wanted = 1 if facing > 0 else 0
            hands[index] = wanted if wanted in free else 1 - wanted
            free.discard(hands[index])
    for index, contact in enumerate(needs):
        wanted = 1 if homes[index].x > x else 0
        if contact == "leaning_on" and wanted in free:
            hands[index] = wanted
    return tuple(hands)

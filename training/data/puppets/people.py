"""The puppet: its build, its pose and the polygons of its body."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.data.puppets.things.pen import Colour, Points, Shape, rgb

Vector = npt.NDArray[np.float64]

_TURNS: Final = np.linspace(0.0, 2.0 * math.pi, 18, endpoint=False)
_CIRCLE: Final[Points] = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1).astype(np.float32)
_HALF: Final[Points] = np.stack(
    [np.cos(np.linspace(0, math.pi, 8)), np.sin(np.linspace(0, math.pi, 8))], axis=1
).astype(np.float32)
_SKINS: Final[tuple[Colour, ...]] = ((247, 214, 188), (229, 183, 147), (198, 146, 106), (153, 103, 70), (105, 69, 47))


@dataclass(frozen=True)
class Build:
    """A person's fixed looks; lengths in units.

    head: radius of the head.
    shoulder: half the width of the shoulders.
    limb: half the thickness of a limb.
    ink: colour of pupils, nose and mouth, in strong contrast to the skin.
    """

    head: float
    torso: float
    leg: float
    arm: float
    shoulder: float
    limb: float
    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    shoes: Colour
    ink: Colour
    long_hair: bool
    long_sleeves: bool
    belt: bool

    @property
    def height(self) -> float:
        """Standing height in units."""
        return 2.0 * self.head + self.torso + self.leg


def draw_build(rng: np.random.Generator, least: float, greatest: float) -> Build:
    """Draws a random person whose standing height lies between `least` and `greatest` units."""
    height = rng.uniform(least, greatest)
    head = float(np.clip(height * rng.uniform(0.1, 0.115), 8.2, 10.8))
    body = height - 2.0 * head
    torso = body * rng.uniform(0.44, 0.5)
    shoulder = rng.uniform(0.095, 0.125) * height
    skin = _SKINS[int(rng.integers(len(_SKINS)))]
    hair = rgb(rng.uniform(0.02, 0.14), rng.uniform(0.1, 0.8), rng.uniform(0.08, 0.55))
    if sum(abs(a - b) for a, b in zip(skin, hair, strict=True)) < 150:  # a face must stand out from its hair
        hair = (28, 22, 20) if sum(skin) > 320 else (222, 205, 170)
    return Build(
        head=head,
        torso=torso,
        leg=body - torso,
        arm=body * rng.uniform(0.46, 0.52),
        shoulder=shoulder,
        limb=rng.uniform(0.026, 0.034) * height,
        skin=skin,
        hair=hair,
        top=rgb(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.3, 0.95)),
        trousers=rgb(rng.random(), rng.uniform(0.1, 0.7), rng.uniform(0.2, 0.7)),
        shoes=rgb(rng.random(), rng.uniform(0.0, 0.6), rng.uniform(0.1, 0.4)),
        ink=(22, 16, 18),
        long_hair=bool(rng.random() < 0.4),
        long_sleeves=bool(rng.random() < 0.5),
        belt=bool(rng.random() < 0.5),
    )


@dataclass(frozen=True)
class Pose:
    """The position of a body as one vector, so that two poses blend by plain interpolation.

    vector: hip x, y; spine angle (radians, 0 upright, clockwise); left foot x, y; right foot x, y; left hand x, y;
        right hand x, y; gaze x, y (a direction in the picture); face (1 seen .. 0 hidden); facing (-1 left .. 1 right).
    """

    vector: Vector

    @classmethod
    def of(
        cls,
        hip: tuple[float, float],
        spine: float,
        feet: tuple[tuple[float, float], tuple[float, float]],
        hands: tuple[tuple[float, float], tuple[float, float]],
        gaze: tuple[float, float],
        face: float,
        facing: float,
    ) -> "Pose":
        """Makes a pose from its named parts."""
        return cls(np.array([*hip, spine, *feet[0], *feet[1], *hands[0], *hands[1], *gaze, face, facing]))

    def blended(self, other: "Pose", share: float) -> "Pose":
        """Returns the pose `share` of the way to `other`."""
        return Pose(self.vector * (1.0 - share) + other.vector * share)

    @property
    def hip(self) -> Vector:
        """Middle of the hips, (2,)."""
        return self.vector[0:2]

    @property
    def up(self) -> Vector:
        """Unit vector along the spine, from the hips to the head, (2,)."""
        spine = float(self.vector[2])
        return np.array((math.sin(spine), -math.cos(spine)))

    @property
    def across(self) -> Vector:
        """Unit vector from the right shoulder to the left one as the viewer sees an upright person, (2,)."""
        spine = float(self.vector[2])
        return np.array((math.cos(spine), math.sin(spine)))

    @property
    def feet(self) -> tuple[Vector, Vector]:
        """Both ankles, (2,) each."""
        return self.vector[3:5], self.vector[5:7]

    @property
    def hands(self) -> tuple[Vector, Vector]:
        """Both hands: the one drawn at -x, then the one at +x, (2,) each."""
        return self.vector[7:9], self.vector[9:11]

    @property
    def gaze(self) -> Vector:
        """Unit vector of the gaze in the picture, (2,)."""
        gaze = self.vector[11:13]
        return gaze / max(float(np.hypot(*gaze)), 1e-6)

    @property
    def face_seen(self) -> bool:
        """True where the face is turned to the viewer."""
        return bool(self.vector[13] > 0.5)

    @property
    def facing(self) -> float:
        """The side to which the knees bend, -1 or 1."""
        return 1.0 if self.vector[14] >= 0.0 else -1.0

    def neck(self, build: Build) -> Vector:
        """Base of the neck, (2,)."""
        return self.hip + self.up * build.torso

    def head(self, build: Build) -> Vector:
        """Centre of the head, (2,)."""
        return self.neck(build) + self.up * (build.head * 0.92)

    def mouth(self, build: Build) -> Vector:
        """Centre of the mouth, (2,)."""
        return self.head(build) + self.gaze * (build.head * 0.22) - self.up * (build.head * 0.46)

    def shoulders(self, build: Build) -> tuple[Vector, Vector]:
        """Shoulder joints at -x and +x of the upright body, (2,) each."""
        neck = self.neck(build) - self.up * (build.limb * 1.1)
        side = self.across * (build.shoulder - build.limb * 0.6)
        return neck - side, neck + side

    def body_point(self, build: Build, across: float, up: float) -> Vector:
        """A point of the body, (2,).

        across: in shares of the shoulders' half width.
        up: in shares of the torso, from the hips.
        """
        return self.hip + self.across * (across * build.shoulder) + self.up * (up * build.torso)


def disc(centre: Vector, radius: float, colour: Colour, stretch: float = 1.0) -> Shape:
    """A filled circle, or an upright ellipse `stretch` times as high as wide."""
    return Shape((_CIRCLE * (radius, radius * stretch) + centre).astype(np.float32), colour)


def limb(start: Vector, end: Vector, width_start: float, width_end: float, colour: Colour) -> Shape:
    """A rounded stick whose half widths differ at its ends."""
    along = end - start
    length = max(float(np.hypot(*along)), 1e-6)
    x, y = along / length
    turn = np.array(((-y, x), (x, y)))  # rows: across, along
    cap = _HALF @ turn * width_end + end
    base = (-_HALF) @ turn * width_start + start
    return Shape(np.concatenate([cap, base]).astype(np.float32), colour)


def limbs(rows: list[tuple[Vector, Vector, float, float, Colour]]) -> list[Shape]:
    """Makes several rounded sticks at once, each given as the arguments of `limb`; this costs little more than one."""
    starts, ends = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    along = ends - starts
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
    x, y = along[:, 0], along[:, 1]
    turns = np.stack([np.stack([-y, x], axis=1), np.stack([x, y], axis=1)], axis=1)  # (n, 2, 2) as in `limb`
    round_end = _HALF @ turns  # (n, 8, 2)
    caps = round_end * np.array([row[3] for row in rows])[:, None, None] + ends[:, None]
    bases = -round_end * np.array([row[2] for row in rows])[:, None, None] + starts[:, None]
    outlines = np.concatenate([caps, bases], axis=1).astype(np.float32)
    return [Shape(outline, row[4]) for outline, row in zip(outlines, rows, strict=True)]


def bend(start: Vector, end: Vector, length: float, side: float) -> Vector:
    """Returns the elbow or knee of a limb.

    length: of both halves together.
    side: the side that it bends to, -1 or 1.
    """
    along = end - start
    distance = float(np.hypot(*along))
    half = max(length, distance * 1.001) / 2.0
    height = math.sqrt(max(half * half - distance * distance / 4.0, 0.0))
    x, y = along / max(distance, 1e-6)
    middle: Vector = (start + end) / 2.0 + np.array((-y, x)) * height * side
    return middle


def legs(build: Build, pose: Pose) -> list[Shape]:
    """Both legs and shoes."""
    rows: list[tuple[Vector, Vector, float, float, Colour]] = []
    for foot, offset in zip(pose.feet, (-0.45, 0.45), strict=True):
        hip = pose.hip + pose.across * (offset * build.shoulder)
        knee = bend(hip, foot, build.leg, -pose.facing)
        rows.append((knee, foot, build.limb * 1.05, build.limb * 0.85, build.trousers))
        rows.append((hip, knee, build.limb * 1.35, build.limb * 1.1, build.trousers))
        toe = foot + np.array((pose.facing * build.limb * 1.4, build.limb * 0.3))
        sole = foot + np.array((0.0, build.limb * 0.3))
        rows.append((sole, toe, build.limb * 0.9, build.limb * 0.8, build.shoes))
    return limbs(rows)


def trunk(build: Build, pose: Pose) -> list[Shape]:
    """Torso and neck."""
    wide, narrow = build.shoulder, build.shoulder * 0.78
    outline = [(-1.0, 0.94), (-0.6, 1.02), (0.6, 1.02), (1.0, 0.94)]
    corners = [pose.hip + pose.across * (x * wide) + pose.up * (y * build.torso) for x, y in outline]
    corners += [
        pose.hip + pose.across * (x * narrow) + pose.up * (y * build.torso) for x, y in ((1, -0.06), (-1, -0.06))
    ]
    shapes = [
        limb(pose.neck(build), pose.head(build), build.limb, build.limb, build.skin),
        Shape(np.stack(corners).astype(np.float32), build.top),
    ]
    if build.belt:
        left, right = (pose.hip + pose.across * (x * narrow) for x in (-0.9, 0.9))
        shapes.append(limb(left, right, 1.2, 1.2, build.shoes))
    return shapes


def head(build: Build, pose: Pose, *, mouth_open: bool = False) -> list[Shape]:
    """Hair and, unless it is turned away, a face; eyes and nose sit in the direction of the gaze."""
    centre, radius = pose.head(build), build.head
    shapes = [disc(centre, radius, build.hair)]
    if build.long_hair:
        tail = centre - pose.up * (radius * 1.1)
        shapes.insert(0, limb(centre, tail, radius * 1.02, radius * 0.8, build.hair))
    if not pose.face_seen:
        return shapes
    gaze, up, across = pose.gaze, pose.up, pose.across
    face = centre + gaze * (radius * 0.24) - up * (radius * 0.08)
    shapes.append(disc(face, radius * 0.8, build.skin))
    eyes = centre + gaze * (radius * 0.48) + up * (radius * 0.12)
    for side in (-0.34, 0.34):
        eye = eyes + across * (side * radius)
        shapes.append(disc(eye, radius * 0.25, (250, 250, 250)))
        shapes.append(disc(eye + gaze * (radius * 0.1), radius * 0.165, build.ink))
    mouth = pose.mouth(build)
    if mouth_open:
        shapes.append(disc(mouth, radius * 0.24, build.ink))
    else:
        shapes.append(limb(mouth - across * (radius * 0.2), mouth + across * (radius * 0.2), 0.55, 0.55, build.ink))
    nose = centre + gaze * (radius * 0.82) - up * (radius * 0.06)
    shapes.append(disc(nose, radius * 0.18, (196, 84, 72)))
    return shapes


def arms(build: Build, pose: Pose) -> list[Shape]:
    """Both arms down to the wrists, two polygons each."""
    rows: list[tuple[Vector, Vector, float, float, Colour]] = []
    for shoulder, hand, side in zip(pose.shoulders(build), pose.hands, (1.0, -1.0), strict=True):
        elbow = bend(shoulder, hand, build.arm, side)
        lower = build.top if build.long_sleeves else build.skin
        rows.append((elbow, hand, build.limb * 0.85, build.limb * 0.7, lower))
        rows.append((shoulder, elbow, build.limb, build.limb * 0.85, build.top))
    return limbs(rows)


def hands(build: Build, pose: Pose) -> list[Shape]:
    """Both hands."""
    return [disc(hand, build.limb * 0.95, build.skin) for hand in pose.hands]

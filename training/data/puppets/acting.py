"""The person at work: the pose, and the places of all things, in one act at one moment."""

import math
from dataclasses import dataclass, field

import numpy as np

from training.data.puppets.casting import GARBS, GRIPS, REACHES, Cast, Member
from training.data.puppets.people import Build, Pose, Vector, disc, limb
from training.data.puppets.staging import Home, Stage, reference_pose
from training.data.puppets.things import Prop, Shape
from training.data.puppets.things.pen import Colour

_RISE = 0.62  # share of a sip's or a bite's period in which the thing is on its way up or at the mouth


@dataclass(frozen=True)
class Placement:
    """The place at which a thing is drawn.

    x, y: its centre.
    angle: in radians.
    layer: `back`, `worn`, `front`, `garment` (over the arms, as sleeves are) or `hand`, painted in this order.
    """

    x: float
    y: float
    angle: float
    layer: str


@dataclass
class Performance:
    """One act at one moment: the pose, the things' placements and the small cues that come with the contacts."""

    pose: Pose
    placements: list[Placement]
    cues: list[Shape] = field(default_factory=list)
    straps: list[Shape] = field(default_factory=list)
    mouth_open: bool = False


def perform(cast: Cast, stage: Stage, act: int, time: float) -> Performance:
    """Returns an act at `time` seconds, without the gaze, which `Story` directs."""
    build, posture = stage.build, stage.postures[act]
    pose = reference_pose(build, posture, stage.facing)
    vector = pose.vector.copy()
    shift = np.array((0.7 * math.sin(time * 2.0), 0.4 * math.sin(time * 2.7)))
    if posture.kind == "walk":
        _walk(cast, act, vector, build, time)
    else:
        vector[[0, 7, 9]] += shift[0]  # a standing body sways over its feet
        vector[[1, 8, 10]] += shift[1]
    result = Performance(Pose(vector), [])
    for index, (member, prop, home) in enumerate(zip(cast.members, stage.props, stage.homes, strict=True)):
        contact, hand = member.contacts[act], stage.hands[act][index]
        if contact in GRIPS and not (contact == "twisting" and member.name == "doorknob"):
            upright = posture.kind in ("stand", "walk")
            placement = _grip(member, contact, prop, hand, build, result, time, upright=upright)
        elif contact in GARBS:
            placement = _garb(member, contact, prop, build, result, lying=posture.kind == "lie")
        else:
            placement = _rest(member, contact, prop, home, hand, build, result, time)
        result.placements.append(placement)
    return result


def _walk(cast: Cast, act: int, vector: Vector, build: Build, time: float) -> None:
    """Moves the body to and fro across the room, legs swinging unless that cue is left out."""
    carrier = next(member for member in cast.members if member.contacts[act] == "carrying")
    beat = 2.0 * math.pi * (time / (carrier.habit.period * 0.75) + carrier.habit.phase)
    vector[[0, 3, 5, 7, 9]] += 13.0 * math.sin(2.0 * math.pi * (time / 5.2 + carrier.habit.phase))
    if not carrier.habit.cue_left_out:
        stride = build.leg * 0.36
        vector[3] += stride * math.sin(beat)
        vector[5] -= stride * math.sin(beat)
        vector[4] -= max(math.cos(beat), 0.0) * build.leg * 0.14
        vector[6] -= max(-math.cos(beat), 0.0) * build.leg * 0.14


def _set_hand(result: Performance, hand: int, point: Vector) -> None:
    result.pose.vector[7 + 2 * hand : 9 + 2 * hand] = point


def _grip(
    member: Member,
    contact: str,
    prop: Prop,
    hand: int,
    build: Build,
    result: Performance,
    time: float,
    *,
    upright: bool,
) -> Placement:
    """Places a thing in one hand or in both."""
    habit, pose = member.habit, result.pose
    width, height = prop.size
    beat = 2.0 * math.pi * (time / habit.period + habit.phase)
    if hand == 2:
        centre = pose.body_point(build, 0.0, 0.42 if contact == "twisting" else 0.34)
        turn = 0.0
        apart = pose.across * min(width * 0.46, build.shoulder * 1.5)
        low = -pose.up * (height * 0.2)
        if contact == "twisting":
            turn = 0.95 * math.sin(beat)
            tilt = 0.0 if habit.cue_left_out else turn
            apart = np.array((math.cos(tilt), math.sin(tilt))) * (width * 0.46)
            low = np.zeros(2)
            if not habit.cue_left_out:
                result.cues += _twist_marks(centre, max(width, height) * 0.62, prop)
        _set_hand(result, 0, centre - apart + low)
        _set_hand(result, 1, centre + apart + low)
        return Placement(float(centre[0]), float(centre[1]), habit.angle + turn, "hand")
    side = 1.0 if hand else -1.0
    out = pose.across * side
    if contact == "holding" and upright and (habit.by_side or member.name in ("broom", "vacuum")):
        grip = pose.hands[hand]
        drop = {"broom": 0.05, "vacuum": 0.3}.get(member.name, 0.4)
        if member.name in ("broom", "vacuum"):
            grip = pose.body_point(build, side * 1.75, 0.12)
            _set_hand(result, hand, grip)
        return Placement(float(grip[0]), float(grip[1]) + height * drop, habit.angle, "hand")
    chest = pose.body_point(build, side * habit.across, min(habit.up, 0.7)) + out * (width * 0.2)
    if contact == "holding" and habit.up > 0.85:  # held up beside the face
        chest = pose.head(build) + out * (build.head + width * 0.42) - pose.up * (build.head * 0.5)
    lift, angle = 0.0, habit.angle
    if contact in ("drinking_from", "eating"):
        lift = min(max(0.5 - 0.5 * math.cos(beat), 0.0) / _RISE, 1.0)
        below = 0.42 if contact == "drinking_from" else 0.2
        mouth = pose.mouth(build) + out * (width * 0.3) - pose.up * (height * below)
        chest = chest * (1.0 - lift) + mouth * lift
        if not habit.cue_left_out:
            if contact == "drinking_from":
                angle -= side * 0.95 * lift
            else:
                result.mouth_open = True
                result.cues += _crumbs(pose.mouth(build), build, beat)
    _set_hand(result, hand, chest + out * (width * 0.18) - pose.up * (height * 0.3))
    return Placement(float(chest[0]), float(chest[1]), angle, "hand")


def _garb(member: Member, contact: str, prop: Prop, build: Build, result: Performance, *, lying: bool) -> Placement:
    """Places a thing on the body."""
    pose, habit = result.pose, member.habit
    spine = float(pose.vector[2])
    if contact == "have_it_on_the_back":
        centre = pose.body_point(build, -pose.facing * 1.8, 0.55)
        for across in (-0.55, 0.55):
            top, low = (pose.body_point(build, across, up) for up in (0.98, 0.4))
            result.straps.append(limb(top, low, 1.1, 1.1, prop.colours[0]))
        return Placement(float(centre[0]), float(centre[1]), spine + habit.angle * 0.5, "back")
    if contact == "covered_by":
        centre = pose.hip - pose.up * (build.leg * 0.12) if lying else pose.body_point(build, 0.0, 0.1)
        return Placement(float(centre[0]), float(centre[1]), habit.angle * 0.5, "front")
    if member.name == "shoe":
        foot = pose.feet[1 if pose.facing > 0 else 0]
        return Placement(
            float(foot[0]) + pose.facing * prop.size[0] * 0.2, float(foot[1]) - prop.size[1] * 0.12, 0.0, "worn"
        )
    centre = pose.body_point(build, 0.0, 0.46 if member.name == "clothes" else 0.7)
    return Placement(float(centre[0]), float(centre[1]), spine, "garment")


def _rest(
    member: Member, contact: str, prop: Prop, home: Home, hand: int, build: Build, result: Performance, time: float
) -> Placement:
    """Places a thing that stays at home, and the hand or foot that goes there."""
    habit, pose = member.habit, result.pose
    beat = 2.0 * math.pi * (time / habit.period + habit.phase)
    angle = habit.angle
    if contact in REACHES or contact == "twisting":
        point = _nearest(pose.shoulders(build)[hand], prop, home)
        if contact == "twisting":
            angle += 0.8 * math.sin(beat)
            point = np.array((home.x, home.y + prop.size[1] * 0.05))
            if not habit.cue_left_out:
                result.cues += _twist_marks(np.array((home.x, home.y)), prop.size[1] * 0.62, prop)
        elif contact == "wiping":
            swing = min(prop.size[0] * 0.32, 11.0)
            low, high = home.x - prop.size[0] / 2.0 + swing, home.x + prop.size[0] / 2.0 - swing
            point = np.array((min(max(float(point[0]), low), max(low, high)) + swing * math.sin(beat), point[1]))
            if not habit.cue_left_out:
                result.cues.append(_cloth(point))
        elif contact == "writing_on":
            corner = np.array((prop.size[0] * (0.26 if hand else -0.26), -prop.size[1] * 0.16))
            stroke = np.array((3.2 * math.sin(beat), 1.2 * math.cos(beat * 2.0)))
            point = np.array((home.x, home.y)) + corner + stroke
            if not habit.cue_left_out:
                tip = point + np.array((-4.0, 3.0))
                result.cues.append(limb(tip, point + np.array((4.0, -7.0)), 0.5, 1.1, (30, 40, 150)))
        _set_hand(result, hand, point)
    elif contact == "leaning_on" and hand >= 0:
        _set_hand(result, hand, _nearest(pose.shoulders(build)[hand], prop, home))
    elif contact == "other_relationship":
        side = 1.0 if home.x > float(pose.hip[0]) else -1.0
        inside = home.x - side * (prop.size[0] / 2.0 - 3.0)
        top = home.y - prop.size[1] / 2.0
        foot = 5 if side > 0 else 3
        pose.vector[foot : foot + 2] = (inside, max(top + 3.0, float(pose.vector[foot + 1]) - build.leg * 0.3))
    in_front = home.in_front and contact not in ("leaning_on", "sitting_on", "lying_on", "standing_on")
    return Placement(home.x, home.y, angle, "front" if in_front else "back")


def _nearest(shoulder: Vector, prop: Prop, home: Home) -> Vector:
    """Returns the point of the thing that a hand reaches most easily, a little inside its edge."""
    half_width, half_height = max(prop.size[0] / 2.0 - 3.5, 0.5), max(prop.size[1] / 2.0 - 3.5, 0.5)
    x = min(max(float(shoulder[0]), home.x - half_width), home.x + half_width)
    y = min(max(float(shoulder[1]) + 8.0, home.y - half_height), home.y + half_height)
    return np.array((x, y))


def _twist_marks(centre: Vector, radius: float, prop: Prop) -> list[Shape]:
    """Two short strokes around a thing that is being turned."""
    colour: Colour = (250, 250, 245) if sum(prop.colours[0]) < 380 else (25, 25, 30)
    shapes: list[Shape] = []
    for turn in (-0.9, math.pi - 0.9):
        ends = [centre + radius * np.array((math.cos(turn + d), math.sin(turn + d))) for d in (-0.35, 0.35)]
        shapes.append(limb(ends[0], ends[1], 0.7, 0.7, colour))
    return shapes


def _cloth(point: Vector) -> Shape:
    """A pale cloth under the hand."""
    corners = np.array([(-6.0, -2.5), (5.5, -4.0), (6.0, 3.0), (0.5, 5.0), (-5.0, 3.5)]) + point
    return Shape(corners.astype(np.float32), (238, 238, 226))


def _crumbs(mouth: Vector, build: Build, beat: float) -> list[Shape]:
    """Three crumbs falling from the mouth."""
    fall = (beat / (2.0 * math.pi)) % 1.0
    return [
        disc(mouth + np.array((x, 0.5 + 0.5 * fall)) * build.head, 0.9, (250, 240, 200)) for x in (-0.35, 0.05, 0.4)
    ]

"""Computes spatial and attention labels from the layout of a scene."""

import math
from dataclasses import dataclass

from training.data.puppets.casting import SUPPORTS
from training.data.puppets.people import Build, Pose

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Body:
    """Measures of the person by which spatial relations are judged, in units.

    box: the box around the person.
    span: left and right end of the trunk.
    head_y, hip_y: heights of the head and of the hips.
    """

    box: Box
    span: tuple[float, float]
    head_y: float
    hip_y: float
    torso: float
    upright: bool


def measure(build: Build, pose: Pose, box: Box) -> Body:
    """Returns the measures of a pose whose whole silhouette has the given box."""
    upright = abs(float(pose.vector[2])) < 1.0
    points = [*pose.shoulders(build), pose.hip, pose.head(build)]
    reach = build.shoulder * 0.4
    span = (min(float(p[0]) for p in points) - reach, max(float(p[0]) for p in points) + reach)
    if not upright:
        span = (box[0], box[2])
    return Body(box, span, float(pose.head(build)[1]), float(pose.hip[1]), build.torso, upright)


def spatial_labels(contact: str, box: Box, *, in_front: bool, inside: bool, body: Body) -> tuple[str, ...]:
    """Returns the spatial predicates of a thing.

    box: the thing's box.
    in_front: true where the thing is painted over the person.
    """
    if contact == "wearing" or inside:
        return ("in",)
    if contact == "have_it_on_the_back":
        return ("behind",)
    if contact == "covered_by":
        return ("in_front_of",)
    if contact in SUPPORTS:
        backed = contact == "sitting_on" and box[1] < body.hip_y - 0.4 * body.torso
        return ("beneath", "behind") if backed else ("beneath",)
    overlap = min(box[2], body.span[1]) - max(box[0], body.span[0])
    beside = overlap < 0.34 * min(box[2] - box[0], body.span[1] - body.span[0])
    labels: list[str] = []
    if body.upright and box[3] <= body.head_y:
        labels.append("above")
    elif body.upright and box[1] >= body.box[3] - 0.28 * (body.box[3] - body.box[1]):
        labels.append("beneath")
    if beside:
        labels.append("on_the_side_of")
    elif not labels or labels == ["beneath"]:
        labels.append("in_front_of" if in_front else "behind")
    return tuple(labels)


def attention_label(build: Build, pose: Pose, box: Box) -> str:
    """Returns the attention predicate, by the angle between the gaze and the nearest way to the thing's inner half."""
    if not pose.face_seen:
        return "unsure"
    return "looking_at" if gaze_angle(build, pose, box) < math.radians(38.0) else "not_looking_at"


def gaze_angle(build: Build, pose: Pose, box: Box) -> float:
    """Returns the angle in radians between the gaze and the direction to the middle of the box."""
    eye = pose.head(build)
    dx, dy = (box[0] + box[2]) / 2.0 - float(eye[0]), (box[1] + box[3]) / 2.0 - float(eye[1])
    distance = max(math.hypot(dx, dy), 1e-6)
    cosine = (dx * float(pose.gaze[0]) + dy * float(pose.gaze[1])) / distance
    return math.acos(min(max(cosine, -1.0), 1.0))

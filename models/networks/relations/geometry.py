"""Numbers that two boxes give: geometry relative to the subject, places in the picture, and motion.

Boxes are corner boxes in units that are the same along both axes, such as pixels or heights of the picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.networks.boxes import paired_generalised_iou

GEOMETRY = 17
PLACES = 9
MOTION = 14
_LEAST = 1e-6
_FARTHEST = 8.0
"""Offsets are cut here, in heights of the subject: farther away is just far."""
_FASTEST = 2.0
"""Motion is cut here, in heights of the subject: what moves farther in half a second is another thing."""
_LARGEST_MOTION = 4.0
"""Scaled motion is cut here, so that a fast thing does not drown what else is known of a pair."""


def pair_geometry(subjects: Tensor, objects: Tensor) -> Tensor:
    """Returns the object's place and size as seen from the subject: (..., 4) x 2 -> (..., 17) float32.

    Lengths are in heights of the subject, so that the boxes' scale changes nothing.
    """
    subject_size, object_size = _size(subjects), _size(objects)  # (..., 2)
    height = subject_size[..., 1:]
    offset = (_centre(objects) - _centre(subjects)) / height
    shared = _shared(subjects, objects)
    gap = (-shared).clamp(min=0) / height
    area = shared.clamp(min=0).prod(-1, keepdim=True)
    subject_area, object_area = subject_size.prod(-1, keepdim=True), object_size.prod(-1, keepdim=True)
    iou, _ = paired_generalised_iou(subjects, objects)
    edges = (objects - _repeated(subjects[..., :2])) / _repeated(subject_size)
    parts = (
        offset,
        offset.norm(dim=-1, keepdim=True),
        gap,
        edges,
        (object_size / height).clamp(min=_LEAST).log(),
        (subject_size[..., :1] / height).clamp(min=_LEAST).log(),
        (object_area / subject_area).clamp(min=_LEAST).log() / 2,
        iou[..., None],
        area / object_area,
        area / subject_area,
        (object_size[..., :1] / object_size[..., 1:]).clamp(min=_LEAST).log(),
    )
    return torch.cat(parts, -1).clamp(-_FARTHEST, _FARTHEST)


def places(subjects: Tensor, objects: Tensor, size: Tensor, known: Tensor) -> Tensor:
    """Returns both boxes as fractions of the picture, and whether its size is known: (..., 9) float32.

    The fractions are zeros where the size is unknown.

    size: (..., 2), width and height of the picture in the boxes' unit. known: (..., 1) bool.
    """
    whole = _repeated(torch.where(known, size, 1.0))
    fractions = torch.cat((subjects / whole, objects / whole), -1)
    return torch.cat((torch.where(known, fractions, 0.0), known.float()), -1)


def pair_motion(subjects: Tensor, objects: Tensor, seen: Tensor, scale: float = 1.0) -> Tensor:
    """Returns the pair's motion from half a second before, and to half a second after: (..., 14) float32.

    Lengths are in heights of the subject now, times `scale`.

    subjects: (..., 3, 4) before, now and after, like `objects`.
    seen: (..., 2) bool, whether the pair is there before and after; where it is not, its part is zero.
    """
    height = _size(subjects)[..., 1, 1:]  # (..., 1)
    subject_centres, object_centres = _centre(subjects), _centre(objects)  # (..., 3, 2)
    parts = []
    for side, other in enumerate((0, 2)):
        sign = 1 if other else -1
        of_subject = sign * (subject_centres[..., other, :] - subject_centres[..., 1, :]) / height
        of_object = sign * (object_centres[..., other, :] - object_centres[..., 1, :]) / height
        moved = torch.cat((of_subject, of_object, of_object - of_subject), -1)  # (..., 6)
        moved = (scale * moved.clamp(-_FASTEST, _FASTEST)).clamp(-_LARGEST_MOTION, _LARGEST_MOTION)
        there = seen[..., side : side + 1]
        parts += [torch.where(there, moved, 0.0), there.float()]
    return torch.cat(parts, -1)


def _centre(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _size(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=_LEAST)


def _shared(first: Tensor, second: Tensor) -> Tensor:
    """Returns the overlap of two boxes along either axis, negative where there is a gap: (..., 2)."""
    return torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])


def _repeated(values: Tensor) -> Tensor:
    """(..., 2) -> (..., 4), for both corners of a box."""
    return torch.cat((values, values), -1)

"""Pose as evidence: hands, mouth, head and torso of a person shift the scores of the predicates that they bear on.

Boxes do not tell a cup in a hand from a cup beside it, or a person who sits on a bed from one who lies on it or stands
in front of it. Six signs, each from -1 to 1, are read off the points of the pose network, and `SHIFTS` adds them to the
logits of predicates. A sign is 0 where the points are not visible, so that a hidden hand says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch import Tensor, nn

from models.graph.vocabulary import Vocabulary
from models.networks.relations.prior_shift import shift_logits

Sign = Literal["hand", "mouth", "head", "lying", "away", "standing"]
SIGNS: Final[tuple[Sign, ...]] = ("hand", "mouth", "head", "lying", "away", "standing")
"""Signs of a pair.

hand: 1 where a hand touches the thing's box, -1 where both are far from it.
mouth: likewise for the mouth.
head: cosine between the direction of the head and that of the thing, less where the face looks at the camera.
lying: 1 for a torso that lies, -1 for one that is upright, whatever the thing.
away: 1 where the hips are far from the thing's box, 0 where they are in it.
standing: 1 for a person who stands straight, 0 for any other, whatever the thing.
"""
SHIFTS: Final[Mapping[str, Mapping[Sign, float]]] = {
    "holding": {"hand": 1.5},
    "carrying": {"hand": 1.0},
    "touching": {"hand": 0.5},
    "wiping": {"hand": 1.0},
    "writing_on": {"hand": 1.0},
    "eating": {"hand": 0.5, "mouth": 1.0},
    "drinking_from": {"hand": 0.5, "mouth": 1.0},
    "not_contacting": {"hand": -0.5},
    "looking_at": {"head": 0.7},
    "not_looking_at": {"head": -0.7},
    "lying_on": {"lying": 1.5, "away": -4.0, "standing": -3.0},
    "sitting_on": {"lying": -1.0, "away": -4.0, "standing": -3.0},
}
"""Shift of a predicate's logit by each sign."""

_NOSE, _EARS, _MOUTH, _SHOULDERS, _HIPS, _KNEES = 0, (7, 8), (9, 10), (11, 12), (23, 24), (25, 26)
_HANDS = (15, 16, 19, 20)
"""Wrists and the tips of the index fingers."""
_NEAR = 0.08
"""Distance at which a sign of nearness has fallen to 0, in heights of the person's box."""
_UPRIGHT = 0.7
"""Sine of the torso's angle to the vertical at which a person neither lies nor is upright."""
_STRAIGHT = (0.6, 0.8)
"""How far the knees are below the hips, in lengths of the torso, where a person begins to stand and where one does."""
_VERTICAL = (0.7, 0.9)
"""Cosine of the torso's angle to the vertical, likewise."""
_LEAST = 1e-6


class PoseEvidence(nn.Module):
    """Shifts the predicate scores of pairs by the pose of their subjects."""

    shifts: Tensor

    def __init__(self, vocabulary: Vocabulary, shifts: Mapping[str, Mapping[Sign, float]] = SHIFTS) -> None:
        """Predicates that the vocabulary lacks are passed over.

        shifts: see `SHIFTS`.
        """
        super().__init__()
        table = torch.zeros(len(SIGNS), len(vocabulary.predicates))
        for predicate, column in vocabulary.predicate_index.items():
            for sign, shift in shifts.get(predicate, {}).items():
                table[SIGNS.index(sign), column] = shift
        self.register_buffer("shifts", table)

    def forward(
        self, scores: Tensor, keypoints: Tensor, person_of_pair: Tensor, subject_boxes: Tensor, object_boxes: Tensor
    ) -> Tensor:
        """Returns the scores, shifted: (B, T, P, R) float32. Scores of exactly 0 or 1 stay.

        scores: (B, T, P, R) float32.
        keypoints: (B, T, K, J, 3) float32: x, y in pixels and visibility of BlazePose's points.
        person_of_pair: (B, T, P) int64, the subject of each pair among the K persons.
        subject_boxes: (B, T, P, 4) corner boxes in pixels, like `object_boxes`.
        """
        index = person_of_pair[..., None, None].expand(-1, -1, -1, *keypoints.shape[3:])
        points = keypoints.gather(2, index)  # (B, T, P, J, 3)
        signs = torch.stack(
            (
                _nearness(points[..., _HANDS, :], subject_boxes, object_boxes),
                _nearness(points[..., _MOUTH, :], subject_boxes, object_boxes),
                _direction(points, object_boxes),
                _lying(points),
                _away(points, subject_boxes, object_boxes),
                _standing(points),
            ),
            -1,
        )  # (B, T, P, S)
        return shift_logits(scores, signs @ self.shifts)


def _nearness(points: Tensor, subject_boxes: Tensor, object_boxes: Tensor) -> Tensor:
    """Returns the nearness of the nearest of M points (..., M, 3) to the objects' boxes (..., 4): (...,) in [-1, 1]."""
    visible = points[..., 2]
    distance = _distance(points[..., :2], subject_boxes, object_boxes)  # (..., M)
    near = 1 - 2 * (distance / (2 * _NEAR)).clamp(max=1)
    seen = visible.amax(-1)
    best = torch.where(visible > 0, near * visible, -1.0).amax(-1)
    return torch.where(best > 0, best, best.clamp(min=-1.0) * seen)


def _distance(places: Tensor, subject_boxes: Tensor, object_boxes: Tensor) -> Tensor:
    """Returns the distances of M places (..., M, 2) to the objects' boxes, in heights of the subjects: (..., M)."""
    beyond = torch.maximum(object_boxes[..., None, :2] - places, places - object_boxes[..., None, 2:]).clamp(min=0)
    height = (subject_boxes[..., 3] - subject_boxes[..., 1]).clamp(min=_LEAST)
    return beyond.square().sum(-1).sqrt() / height[..., None]


def _direction(points: Tensor, object_boxes: Tensor) -> Tensor:
    """Returns the cosine between head and object, as far as the head turns aside: (...,) in [-1, 1]."""
    nose, ears = points[..., _NOSE, :], points[..., _EARS, :]
    head = nose[..., :2] - ears[..., :2].mean(-2)
    width = (ears[..., 0, :2] - ears[..., 1, :2]).square().sum(-1).sqrt()
    turn = head.square().sum(-1).sqrt()
    towards = (object_boxes[..., :2] + object_boxes[..., 2:]) / 2 - nose[..., :2]
    distance = towards.square().sum(-1).sqrt()
    cosine = (head * towards).sum(-1) / (turn * distance).clamp(min=_LEAST)
    aside = turn / (turn + width).clamp(min=_LEAST)
    return cosine * aside * nose[..., 2]


def _lying(points: Tensor) -> Tensor:
    """Returns whether the torso lies: (...,) in [-1, 1], -1 for one that is upright."""
    shoulders, hips = points[..., _SHOULDERS, :], points[..., _HIPS, :]
    torso = shoulders[..., :2].mean(-2) - hips[..., :2].mean(-2)
    sine = torso[..., 0].abs() / torso.square().sum(-1).sqrt().clamp(min=_LEAST)
    seen = torch.minimum(shoulders[..., 2].amin(-1), hips[..., 2].amin(-1))
    return ((sine - _UPRIGHT) / (1 - _UPRIGHT)).clamp(-1, 1) * seen


def _away(points: Tensor, subject_boxes: Tensor, object_boxes: Tensor) -> Tensor:
    """Returns how far the hips are from the objects' boxes: (...,) in [0, 1]."""
    hips = points[..., _HIPS, :]
    middle = hips[..., :2].mean(-2, keepdim=True)
    distance = _distance(middle, subject_boxes, object_boxes)[..., 0]
    return (distance / (2 * _NEAR)).clamp(max=1) * hips[..., 2].amin(-1)


def _standing(points: Tensor) -> Tensor:
    """Returns whether the torso and both thighs are upright: (...,) in [0, 1]."""
    shoulders, hips, knees = points[..., _SHOULDERS, :], points[..., _HIPS, :], points[..., _KNEES, :]
    torso = hips[..., :2].mean(-2) - shoulders[..., :2].mean(-2)
    length = torso.square().sum(-1).sqrt().clamp(min=_LEAST)
    drop = (knees[..., 1] - hips[..., 1]).amin(-1) / length
    seen = torch.minimum(hips[..., 2].amin(-1), knees[..., 2].amin(-1))
    return _ramp(drop, _STRAIGHT) * _ramp(torso[..., 1] / length, _VERTICAL) * seen


def _ramp(values: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Returns 0 below the bounds, 1 above them, and between them what lies between."""
    low, high = bounds
    return ((values - low) / (high - low)).clamp(0, 1)

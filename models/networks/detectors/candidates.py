"""What a detector has found in frames, before its regions are pooled into pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Regions:
    """The R best proposals of N frames, with the scores of the background and the vocabulary's C objects.

    boxes: (N, R, 4) corner boxes in pixels.
    mask: (N, R) bool, true where there is a proposal.
    features: (N, R, F).
    probabilities: (N, R, 1 + C), the background first.
    deltas: (N, R, 1 + C, 4), box refinements for each class.
    """

    boxes: Tensor
    mask: Tensor
    features: Tensor
    probabilities: Tensor
    deltas: Tensor


@dataclass(frozen=True)
class Candidates:
    """P pairs of a subject and an object in each of N frames, before the regions around both are pooled.

    mask: (N, P) bool, true where a slot holds a pair.
    subject: (N, P, 4) corner boxes of the subjects, in pixels.
    subject_scores: (N, P).
    subject_classes: (N, P) int64, indices into the vocabulary's objects.
    subject_features: (N, P, F).
    boxes: (N, P, 4) corner boxes of the objects, in pixels.
    scores: (N, P, C) of the objects.
    features: (N, P, F) of the objects.
    """

    mask: Tensor
    subject: Tensor
    subject_scores: Tensor
    subject_classes: Tensor
    subject_features: Tensor
    boxes: Tensor
    scores: Tensor
    features: Tensor

    def followed_by(self, other: Candidates) -> Candidates:
        """Returns these candidates with those of the same frames behind them, in more slots."""
        mine, others = vars(self), vars(other)
        return Candidates(**{name: torch.cat((mine[name], others[name]), 1) for name in mine})

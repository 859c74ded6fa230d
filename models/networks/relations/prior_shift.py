"""Moves predicate scores from the habits of the training data to those of the videos that are served.

Data sets of photographs show people who do something with the things that are annotated, so a network trained on them
says `holding` of most cups beside a person. In everyday video most things are just there.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.graph.vocabulary import Vocabulary

_LEAST = 1e-6


class PriorShift(nn.Module):
    """Adds a constant to the logits of some predicates.

    shifts: (R,) float32.
    """

    shifts: Tensor

    def __init__(self, vocabulary: Vocabulary, shifts: Mapping[str, float]) -> None:
        """Raises ConfigurationError where the vocabulary lacks a predicate.

        shifts: predicate to the constant, such as the difference of the logarithms of its odds in both kinds of data.
        """
        super().__init__()
        if unknown := shifts.keys() - vocabulary.predicate_index.keys():
            raise ConfigurationError(f"prior_shifts has {min(unknown)!r}, which is no predicate of the vocabulary")
        self.register_buffer("shifts", torch.tensor([shifts.get(name, 0.0) for name in vocabulary.predicates]))

    def forward(self, scores: Tensor) -> Tensor:
        """Maps scores (..., R) to the same shape. Scores of exactly 0 or 1 stay."""
        return shift_logits(scores, self.shifts)


def shift_logits(scores: Tensor, shifts: Tensor) -> Tensor:
    """Returns scores (...,) in [0, 1] whose logits are moved by `shifts`. Scores of exactly 0 or 1 stay."""
    shifted = (scores.clamp(_LEAST, 1 - _LEAST).logit() + shifts).sigmoid()
    return torch.where((scores > 0) & (scores < 1), shifted, scores)

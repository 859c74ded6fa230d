"""The parts that read pairs: the decoder that makes their features, and the heads that describe them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.graph.vocabulary import GroupName, Vocabulary
from models.networks.boxes import to_corners
from models.networks.layers import DecoderLayer, Perceptron


class QueryDecoder(nn.Module):
    """DETR's decoder: queries that start from nothing but their position, and a norm behind the last layer."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden, 0.0) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, position: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Returns the features of the queries, (N, Q, D).

        position: (N, Q, D), positions of the queries.
        keys: (N, S, D).
        values: (N, S, D).
        """
        queries = torch.zeros_like(position)
        for layer in self.layers:
            queries = layer(queries, position, keys, values)
        normed: Tensor = self.norm(queries)
        return normed


@dataclass(frozen=True)
class PairLogits:
    """Logits and boxes of pairs of a subject and an object, of a vocabulary of C objects.

    objects: (..., 2 + C). The first column is never trained, and the last is no object.
    predicates: by group, (..., predicates), and one more column in exclusive groups, for none of them.
    subject_boxes: (..., 4) centre boxes.
    object_boxes: (..., 4) centre boxes.
    """

    objects: Tensor
    predicates: dict[GroupName, Tensor]
    subject_boxes: Tensor
    object_boxes: Tensor


class PairHeads(nn.Module):
    """Classifies and locates pairs."""

    def __init__(self, width: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.objects = nn.Linear(width, len(vocabulary.objects) + 2)
        self.predicates = nn.ModuleDict(
            {group.name: nn.Linear(width, len(group.predicates) + group.exclusive) for group in vocabulary.groups}
        )
        self.subject_box = Perceptron(width, width, 4, 3)
        self.object_box = Perceptron(width, width, 4, 3)
        self.exclusive = {group.name: group.exclusive for group in vocabulary.groups}

    def forward(self, instances: Tensor, relations: Tensor) -> PairLogits:
        """Describes pairs by their instance features (..., D) and their relation features (..., D)."""
        return PairLogits(
            self.objects(instances),
            {name: head(relations) for name, head in self.predicates.items()},
            self.subject_box(instances).sigmoid(),
            self.object_box(instances).sigmoid(),
        )

    def rank(self, instances: Tensor, relations: Tensor) -> Tensor:
        """Returns (...,) the product of the best object's probability and each group's best predicate's."""
        ranks: Tensor = self.objects(instances).softmax(-1)[..., :-1].amax(-1)
        for name, head in self.predicates.items():
            logits = head(relations)
            best = logits.softmax(-1)[..., :-1] if self.exclusive[name] else logits.sigmoid()
            ranks = ranks * best.amax(-1)
        return ranks

    def describe(self, logits: PairLogits) -> dict[str, Tensor]:
        """Returns predictions by name, of logits (B, T, Q, …); see `models.graph.predictions.prediction_names`.

        The subject is certain. Predicates of an exclusive group share a probability of 1.
        """
        slots = logits.subject_boxes[..., 0]
        return {
            "pair_mask": torch.ones_like(slots, dtype=torch.bool),
            "subject_boxes": to_corners(logits.subject_boxes).clamp(0, 1),
            "subject_scores": torch.ones_like(slots),
            "object_boxes": to_corners(logits.object_boxes).clamp(0, 1),
            "object_scores": logits.objects.softmax(-1)[..., 1:-1],
            **{
                name: values[..., :-1].softmax(-1) if self.exclusive[name] else values.sigmoid()
                for name, values in logits.predicates.items()
            },
        }

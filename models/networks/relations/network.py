"""The common base of all relation networks: they represent pairs, decode them in context, and classify predicates."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from models.networks.relations.config import RelationConfig
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.representation import PairRepresentation


class RelationNetwork(nn.Module, ABC):
    """Turns pairs into relations.

    Subclasses add `decode`, `classify` and, where they have any, loss terms of their own. The two are apart because a
    relation scorer may add the video's context between them (`models.networks.scored`).

    predicate_counts: (R,), number of training labels of each predicate. Training fills it from the data, and networks
        that weigh by frequency read it.
    """

    predicate_counts: Tensor

    def __init__(self, config: RelationConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.representation = PairRepresentation(config, vocabulary)

        self.register_buffer("predicate_counts", torch.ones(len(vocabulary.predicates)))

    @property
    def knows_uncertainty(self) -> bool:
        """Whether `Relations` carry uncertainties."""
        return False

    def forward(self, pairs: Pairs) -> Relations:
        """Scores the predicates of pairs, for any T from 1. A frame may have no pair."""
        represented = self.representation(pairs)
        return self.classify(pairs.labels, represented, self.decode(pairs, represented))

    @property
    @abstractmethod
    def decoded_width(self) -> int:
        """E, width of what `decode` returns."""

    @abstractmethod
    def decode(self, pairs: Pairs, represented: Tensor) -> Tensor:
        """Returns the pairs in their context, (B, T, P, E), from their representation (B, T, P, D).

        Of the pairs it may read all but the features: with `whole_video`, a stage of its own runs it.
        """

    @abstractmethod
    def classify(self, labels: Tensor, represented: Tensor, decoded: Tensor) -> Relations:
        """Scores the predicates of decoded pairs (B, T, P, E).

        labels: (B, T, P) int64, indices of the objects.
        represented: (B, T, P, D), kept in the result.
        """

    def loss_terms(self, pairs: Pairs, relations: Relations, predicates: Tensor) -> dict[str, Tensor]:
        """Returns the weighted loss terms that only this network has, by name; none by default.

        predicates: (B, T, P, R) float32, 1 where the pair has the predicate; all zero where the slot matches no
            annotated object.
        """
        return {}


def activate(logits: Tensor, group: PredicateGroup) -> Tensor:
    """Returns a group's probabilities in float32: a softmax where its predicates exclude each other, else sigmoids."""
    logits = logits.float()
    return logits.softmax(-1) if group.exclusive else logits.sigmoid()

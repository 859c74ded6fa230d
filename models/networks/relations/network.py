"""The common base of all relation networks, which turn a pair's representation into predicate scores."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from models.networks.relations.config import RelationConfig
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.representation import PairRepresentation


class RelationNetwork(nn.Module, ABC):
    """Turns pairs into relations. Subclasses add `transform` and, where they have any, loss terms of their own.

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
        return self.transform(pairs, represented)

    @abstractmethod
    def transform(self, pairs: Pairs, represented: Tensor) -> Relations:
        """Runs the network's own part on the representation (B, T, P, D); returns the scores of the pairs."""

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

"""What all relation networks have in common: a pair's representation goes in, predicates come out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from models.networks.relations.config import RelationConfig
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.representation import PairRepresentation


class RelationNetwork(nn.Module, ABC):
    """Pairs in, relations out. Subclasses add `transform` and, where they have any, their own terms of the loss."""

    predicate_counts: Tensor

    def __init__(self, config: RelationConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.representation = PairRepresentation(config, vocabulary)
        # Training labels of each predicate; networks that weigh by frequency read it, training fills it from the data.
        self.register_buffer("predicate_counts", torch.ones(len(vocabulary.predicates)))

    @property
    def knows_uncertainty(self) -> bool:
        """Whether `Relations` carry uncertainties."""
        return False

    def forward(self, pairs: Pairs) -> Relations:
        """See `Pairs` and `Relations` for shapes. Any T from 1; frames without a pair are fine."""
        represented = self.representation(pairs)
        return self.transform(pairs, represented)

    @abstractmethod
    def transform(self, pairs: Pairs, represented: Tensor) -> Relations:
        """The network's own part: (B, T, P, D) -> what it says of the pairs."""

    def loss_terms(self, pairs: Pairs, relations: Relations, predicates: Tensor) -> dict[str, Tensor]:
        """Terms of the loss that only this network has, weighted, by name; none by default.

        predicates: (B, T, P, R) float32, 1 where the pair has the predicate; all zero where the slot matches no
        annotated object.
        """
        return {}


def activate(logits: Tensor, group: PredicateGroup) -> Tensor:
    """Probabilities of a group, in float32: a softmax where its predicates exclude each other, sigmoids elsewhere."""
    logits = logits.float()
    return logits.softmax(-1) if group.exclusive else logits.sigmoid()

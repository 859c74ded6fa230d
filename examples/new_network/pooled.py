"""Pooled: every pair beside the mean pair of its frame and of its clip. As small as a relation network gets.

docs/new_model.md makes it one of the networks of this repository, step by step.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.layers import Perceptron
from models.networks.relations.config import RelationConfig
from models.networks.relations.network import RelationNetwork, activate
from models.networks.relations.pairs import Pairs, Relations


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PooledConfig(RelationConfig):
    """The shape of a pooled network. Every part that can be left out has a switch."""

    network: Literal["pooled"] = "pooled"
    clip_context: bool = True
    """Show every pair the mean of the clip's pairs, too."""


class Pooled(RelationNetwork):
    """Pairs to predicates through a perceptron on each pair and the means around it."""

    config: PooledConfig

    def __init__(self, config: PooledConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__(config, vocabulary)
        read = 3 if config.clip_context else 2
        self.mix = Perceptron(read * config.width, config.feed_forward, config.width, 2)
        self.heads = nn.ModuleDict(
            {group.name: nn.Linear(config.width, len(group.predicates)) for group in vocabulary.groups}
        )

    @property
    def decoded_width(self) -> int:
        """The representation's width."""
        return self.config.width

    def decode(self, pairs: Pairs, represented: Tensor) -> Tensor:
        """See `RelationNetwork`."""
        real = pairs.mask[..., None]
        read = [represented, mean_of_pairs(represented, real, (2,))]
        if self.config.clip_context:
            read.append(mean_of_pairs(represented, real, (1, 2)))
        mixed: Tensor = self.mix(torch.cat([each.expand_as(represented) for each in read], -1))
        return represented + mixed

    def classify(self, labels: Tensor, represented: Tensor, decoded: Tensor) -> Relations:
        """See `RelationNetwork`."""
        groups = self.vocabulary.groups
        probabilities = {group.name: activate(self.heads[group.name](decoded), group) for group in groups}
        return Relations(probabilities, represented, decoded)


def mean_of_pairs(tokens: Tensor, real: Tensor, axes: tuple[int, ...]) -> Tensor:
    """(B, T, P, D) and (B, T, P, 1) bool -> the mean over some axes, which stay with length 1; 0 where no pair is."""
    return (tokens * real).sum(axes, keepdim=True) / real.sum(axes, keepdim=True).clamp(min=1)

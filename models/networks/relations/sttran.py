"""STTran: the spatio-temporal transformer for dynamic scene graphs (Cong et al., ICCV 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import ConfigDict, NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from models.errors import WeightsError
from models.graph.vocabulary import ACTION_GENOME, GroupName, Vocabulary
from models.networks.relations.config import RelationConfig
from models.networks.relations.network import RelationNetwork, activate
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.reference import load_published
from models.networks.relations.temporal import Aggregation, SpatialEncoder, WindowDecoder


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class SttranConfig(RelationConfig):
    """Shape of an STTran network. The defaults are the paper's.

    aggregation: how a frame's two windows are joined; see `Aggregation`.
    """

    network: Literal["sttran"] = "sttran"
    encoder_layers: NonNegativeInt = 1
    decoder_layers: NonNegativeInt = 3
    aggregation: Aggregation = "latter"


class Sttran(RelationNetwork):
    """Scores predicates through an encoder of each frame and a decoder over windows of two frames."""

    config: SttranConfig

    def __init__(self, config: SttranConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__(config, vocabulary)
        self.glocal_transformer = SpatioTemporalTransformer(config)
        for group in vocabulary.groups:
            self.add_module(_head_name(group.name), nn.Linear(config.width, len(group.predicates)))

    @property
    def decoded_width(self) -> int:
        """The representation's width."""
        return self.config.width

    def decode(self, pairs: Pairs, represented: Tensor) -> Tensor:
        """See `RelationNetwork`."""
        decoded: Tensor = self.glocal_transformer(represented, pairs.mask)
        return decoded

    def classify(self, labels: Tensor, represented: Tensor, decoded: Tensor) -> Relations:
        """See `RelationNetwork`."""
        probabilities = {
            group.name: activate(self.get_submodule(_head_name(group.name))(decoded), group)
            for group in self.vocabulary.groups
        }
        return Relations(probabilities, represented, decoded)


def _head_name(group: GroupName) -> str:
    """Returns the name of a group's classifier. Published weights name Action Genome's groups by one letter."""
    published = {"attention": "a", "spatial": "s", "contacting": "c"}
    return f"{published.get(group, group)}_rel_compress"


class SpatioTemporalTransformer(nn.Module):
    """Attention among the pairs of a frame, then among those of a window. Parameters have the published names."""

    def __init__(self, config: SttranConfig) -> None:
        super().__init__()
        sizes = (config.width, config.heads, config.feed_forward, config.dropout)
        self.local_attention = SpatialEncoder(*sizes, config.encoder_layers)
        self.global_attention = WindowDecoder(*sizes, config.decoder_layers, config.aggregation)

    def forward(self, represented: Tensor, mask: Tensor) -> Tensor:
        """Maps pairs (B, T, P, D) to the same shape; `mask` (B, T, P) bool is true where a slot holds a pair."""
        decoded: Tensor = self.global_attention(self.local_attention(represented, mask), mask)
        return decoded

    def load_reference_state(self, state: Mapping[str, Tensor]) -> None:
        """Loads the state of the published transformer, with or without its prefix `glocal_transformer.`.

        Raises WeightsError, naming the first key that is missing, misshaped or unknown here.
        """
        unused = load_published(
            self, {name.removeprefix("glocal_transformer."): tensor for name, tensor in state.items()}
        )
        if unused:
            raise WeightsError(
                f"the published key {unused[0]!r} has no place: give the network as many layers as the weights"
            )


def load_sttran_checkpoint(network: Sttran, state: Mapping[str, Tensor]) -> list[str]:
    """Loads the `state_dict` of a whole published STTran relation model. Returns the unused names, sorted.

    The unused ones belong to the object classifier, which is not a part of `Sttran`. Raises WeightsError, naming the
    first key that is missing or misshaped or a layer that the network does not have, and where the network has
    `clip_features`.
    """
    if network.config.clip_features:
        raise WeightsError("the published STTran reads no CLIP features; load it into a network without clip_features")
    unused = load_published(network, state)
    for name in unused:
        if name.startswith("glocal_transformer."):
            raise WeightsError(
                f"the published key {name!r} has no place: give the network as many layers as the weights"
            )
    return unused

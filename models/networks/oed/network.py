"""OED (Wang et al., 2024): DETR whose queries are pairs, with a second decoder for their predicates.

The spatial network reads single frames. The temporal network refines their pairs by those of reference frames; it
reads a frame's pairs as the spatial stage made them, so that this stage runs once a frame. The official evaluation
drops near-duplicate triplets (`use_nms_filter`); here service and evaluation drop near-duplicate pairs of every network
(`models.graph.duplicates`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.backbone import Normalise, ResNet
from models.networks.layers import EncoderLayer, sine_position
from models.networks.oed.config import OedConfig
from models.networks.oed.pairs import PairHeads, QueryDecoder
from models.networks.oed.refinement import Refinement
from models.networks.stages import FRAMES, NetworkStage

PAIR_FEATURES = "pair_features"
"""(B, T, Q, 2D) float32: instance and relation features of the pairs of a frame, side by side."""
PAIR_RANKS = "pair_ranks"
"""(B, T, Q) float32: see `PairHeads.rank`."""


class Oed(nn.Module):
    """Turns frames into scored pairs, Q for each frame.

    Raises ConfigurationError where the vocabulary has several subjects, which the network does not tell apart.
    """

    place: Tensor

    def __init__(self, config: OedConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__()
        if len(vocabulary.subjects) > 1:
            raise ConfigurationError(
                f"the vocabulary has {len(vocabulary.subjects)} subjects, which OED does not tell apart: give one of a "
                "single subject"
            )
        self.config = config
        self.vocabulary = vocabulary
        width, heads, hidden = config.width, config.heads, config.feed_forward
        self.normalise = Normalise()
        self.backbone = ResNet(config.backbone)
        self.input_projection = nn.Conv2d(self.backbone.channels, width, 1)
        self.register_buffer("place", sine_position(*config.map_size, width), persistent=False)
        self.encoder = nn.ModuleList(EncoderLayer(width, heads, hidden, 0.0) for _ in range(config.encoder_layers))
        self.instance_position = nn.Parameter(torch.randn(config.queries, width))
        self.instance_decoder = QueryDecoder(width, heads, hidden, config.instance_layers)
        self.interaction_decoder = QueryDecoder(width, heads, hidden, config.interaction_layers)
        self.heads = PairHeads(width, vocabulary)
        self.refinement = Refinement(config) if config.kept_pairs else None
        self.refined_heads = PairHeads(width, vocabulary) if config.kept_pairs else None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.config.frame_height, self.config.frame_width

    @property
    def slots_are_ranked(self) -> bool:
        """Always false: each learned query has its slot."""
        return False

    @property
    def clip_length(self) -> int:
        """Most frames that run at once."""
        return self.config.clip_length

    def decode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns instance features and relation features, (N, Q, D) each, of frames (N, H, W, 3) uint8 RGB."""
        features = self.input_projection(self.backbone(self.normalise(frames)))
        tokens = features.flatten(2).transpose(1, 2)  # (N, S, D)
        for layer in self.encoder:
            tokens = layer(tokens, self.place)
        keys = tokens + self.place
        instances = self.instance_decoder(self.instance_position.expand(frames.shape[0], -1, -1), keys, tokens)
        return instances, self.interaction_decoder(instances, keys, tokens)

    def stages(self) -> list[NetworkStage]:
        """Returns the stage that reads frames, and in the temporal network the one that refines its pairs."""
        if self.refinement is None:
            scene_graph = _SceneGraph(self)
            return [NetworkStage("scene_graph", scene_graph, (FRAMES,), scene_graph.outputs, "frame")]
        refined = _Refined(self)
        return [
            NetworkStage("pairs", _Pairs(self), (FRAMES,), (PAIR_FEATURES, PAIR_RANKS), "frame"),
            NetworkStage("scene_graph", refined, (PAIR_FEATURES, PAIR_RANKS), refined.outputs),
        ]


def _outputs(vocabulary: Vocabulary) -> tuple[str, ...]:
    boxes_and_scores = ("pair_mask", "subject_boxes", "subject_scores", "object_boxes", "object_scores")
    return (*boxes_and_scores, *vocabulary.group_names)


class _SceneGraph(nn.Module):
    """Describes the pairs of the spatial network."""

    def __init__(self, network: Oed) -> None:
        super().__init__()
        self.network = network
        self.outputs = _outputs(network.vocabulary)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        instances, relations = self.network.decode(frames.flatten(0, 1))
        heads = self.network.heads
        said = heads.describe(heads(instances, relations))
        return tuple(said[name].unflatten(0, frames.shape[:2]) for name in self.outputs)


class _Pairs(nn.Module):
    """Makes the features and ranks of a frame's pairs."""

    def __init__(self, network: Oed) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        instances, relations = self.network.decode(frames.flatten(0, 1))
        ranks = self.network.heads.rank(instances, relations)
        clips = frames.shape[:2]
        return torch.cat((instances, relations), -1).unflatten(0, clips), ranks.unflatten(0, clips)


class _Refined(nn.Module):
    """Describes the refined pairs of the temporal network, within clips."""

    def __init__(self, network: Oed) -> None:
        super().__init__()
        assert network.refinement is not None
        assert network.refined_heads is not None
        self.refinement, self.heads = network.refinement, network.refined_heads
        self.outputs = _outputs(network.vocabulary)

    def forward(self, pairs: Tensor, ranks: Tensor) -> tuple[Tensor, ...]:
        said = self.heads.describe(self.heads(*self.refinement(pairs, ranks).chunk(2, dim=-1)))
        return tuple(said[name] for name in self.outputs)

"""Configuration of ARN: the paper's network, its ablations, and the aids that let a small one train on two cores."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from models.errors import ConfigurationError

WeightMapping = Literal["conditional", "add", "nonlinear"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ArnConfig:
    """Everything that decides the shape of an ARN network.

    The defaults are the paper's. Fields from `dense_proposals` on are training aids that the paper does not have.
    """

    network: Literal["arn"] = "arn"
    frame_height: int = 480
    frame_width: int = 640
    clip_length: int = 4
    """Most frames the network takes along time; the frame encoding p_t has this many rows."""

    backbone: Literal["resnet50", "compact"] = "resnet50"
    width: int = 256
    heads: int = 8
    feed_forward: int = 2048
    dropout: float = 0.1
    encoder_layers: int = 6
    entity_layers: int = 3
    predicate_layers: int = 3
    """The last one is the Predicate Association Parsing layer, where that is on."""
    queries: int = 100

    triplet_prediction: bool = True
    """Predict predicates as triplets against text embeddings (eq 6, 15; "CLIP" in Table 3) instead of directly."""
    text_width: int = 512
    predicate_association: bool = True
    """Predicate Association Parsing (eq 8-10; "PAP" in Table 3)."""
    hierarchical_attention: bool = True
    """Hierarchical Attention (eq 11-13; "HA" in Table 3)."""
    weight_mapping: WeightMapping = "conditional"
    """Table 4: `add` is Model I, `nonlinear` Model II, `conditional` the paper's own."""
    temporal_attention: bool = True
    """Self-attention over the frames of a clip at one place (eq 3)."""
    mimicry: bool = False
    """A projection of the predicate queries to CLIP's image space, for the L1 term of eq 14."""

    dense_proposals: bool = False
    """Start the queries from the peaks of a dense detection head instead of learned ones."""
    region_grid: int = 0
    """Sample this many by this many points of the fine feature map inside each query's box; 0 is off."""
    sigmoid_classes: bool = False
    """Classify objects with a sigmoid per class instead of a softmax with a no-object class."""
    centred_text: bool = False
    """Take the mean out of the text embeddings, which otherwise lie within a narrow cone."""
    compact_widths: tuple[int, int, int] = (32, 64, 128)
    """Channels of the compact backbone at strides 4, 8 and 16."""
    compact_blocks: tuple[int, int, int] = (1, 2, 2)

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4:
            raise ConfigurationError(f"width {self.width} must be a multiple of 4 and of heads ({self.heads})")
        if self.hierarchical_attention and not self.predicate_association:
            raise ConfigurationError("hierarchical_attention needs predicate_association: it works on its output")
        if self.backbone == "resnet50" and (self.dense_proposals or self.region_grid):
            raise ConfigurationError("dense_proposals and region_grid need the compact backbone's fine feature map")
        if self.region_grid and not self.dense_proposals:
            raise ConfigurationError("region_grid needs dense_proposals, whose boxes it samples in")
        stride = 32 if self.backbone == "resnet50" else 16
        if self.frame_height % stride or self.frame_width % stride:
            raise ConfigurationError(
                f"frame {self.frame_width}x{self.frame_height} must be a multiple of {stride} in both directions"
            )


def arn_r50() -> ArnConfig:
    """The paper's network: ResNet-50, 100 queries, 6 encoder and 3 + 3 decoder layers."""
    return ArnConfig()


def arn_compact() -> ArnConfig:
    """Small enough to train on two cores, with the training aids on."""
    return ArnConfig(
        frame_height=128,
        frame_width=160,
        clip_length=4,
        backbone="compact",
        width=128,
        feed_forward=256,
        dropout=0.0,
        encoder_layers=1,
        entity_layers=2,
        predicate_layers=2,
        queries=20,
        dense_proposals=True,
        region_grid=4,
        sigmoid_classes=True,
        centred_text=True,
    )

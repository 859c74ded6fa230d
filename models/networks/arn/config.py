"""Configuration of ARN: the paper's network, its ablations, and aids with which a small network trains on two cores."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from models.errors import ConfigurationError
from models.networks.ranges import Dropout, Widths

WeightMapping = Literal["conditional", "add", "nonlinear"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ArnConfig:
    """Shape of an ARN network. The defaults are the paper's.

    Fields from `dense_proposals` on are aids for small networks that the paper does not have. Raises ConfigurationError
    where fields contradict each other.

    clip_length: most frames along time. The frame encoding p_t has this many rows.
    predicate_layers: number of layers. The last is the Predicate Association Parsing layer, where that is on.
    triplet_prediction: predicts predicates as triplets against text embeddings (eq 6, 15; "CLIP" in Table 3) instead of
        directly.
    text_width: E, width of the text embeddings.
    predicate_association: uses Predicate Association Parsing (eq 8-10; "PAP" in Table 3).
    hierarchical_attention: uses Hierarchical Attention (eq 11-13; "HA" in Table 3).
    weight_mapping: of Table 4, `add` is Model I, `nonlinear` is Model II, and `conditional` is the paper's own.
    temporal_attention: uses self-attention over the frames of a clip at one place (eq 3).
    mimicry: projects the predicate queries to CLIP's image space, for the L1 term of eq 14.
    entity_norm: normalises the entities before the heads read them, as DETR's decoder does, whose box head was trained
        behind that norm.
    dense_proposals: starts the queries from the peaks of a dense detection head instead of learned ones.
    region_grid: points along each side of a grid that samples the fine feature map inside each query's box; 0 for none.
    sigmoid_classes: classifies objects with a sigmoid for each class instead of a softmax with a no-object class.
    centred_text: subtracts the mean from the text embeddings, which otherwise lie within a narrow cone.
    compact_widths: channels of the compact backbone at strides 4, 8 and 16.
    compact_blocks: residual blocks of the compact backbone at these strides.
    """

    network: Literal["arn"] = "arn"
    frame_height: PositiveInt = 480
    frame_width: PositiveInt = 640
    clip_length: PositiveInt = 4

    backbone: Literal["resnet50", "compact"] = "resnet50"
    width: PositiveInt = 256
    heads: PositiveInt = 8
    feed_forward: PositiveInt = 2048
    dropout: Dropout = 0.1
    encoder_layers: NonNegativeInt = 6
    entity_layers: PositiveInt = 3
    predicate_layers: PositiveInt = 3
    queries: PositiveInt = 100

    triplet_prediction: bool = True
    text_width: PositiveInt = 512
    predicate_association: bool = True
    hierarchical_attention: bool = True
    weight_mapping: WeightMapping = "conditional"
    temporal_attention: bool = True
    mimicry: bool = False
    entity_norm: bool = False

    dense_proposals: bool = False
    region_grid: NonNegativeInt = 0
    sigmoid_classes: bool = False
    centred_text: bool = False
    compact_widths: Widths = (32, 64, 128)
    compact_blocks: Widths = (1, 2, 2)

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4:
            raise ConfigurationError(f"width is {self.width}: give a multiple of 4 and of heads ({self.heads})")
        if self.hierarchical_attention and not self.predicate_association:
            raise ConfigurationError("hierarchical_attention needs predicate_association: switch that on, or both off")
        if self.backbone == "resnet50" and (self.dense_proposals or self.region_grid):
            raise ConfigurationError(
                "dense_proposals and region_grid need the compact backbone's fine feature map: take that backbone, or "
                "switch both off"
            )
        if self.region_grid and not self.dense_proposals:
            raise ConfigurationError(
                "region_grid needs dense_proposals, whose boxes it samples in: switch those on, or set region_grid to 0"
            )
        stride = 32 if self.backbone == "resnet50" else 16
        if self.frame_height % stride or self.frame_width % stride:
            raise ConfigurationError(
                f"the frame is {self.frame_width}x{self.frame_height} pixels: give multiples of {stride}"
            )
        cells = self.frame_height // 8 * (self.frame_width // 8)
        if self.dense_proposals and self.queries > cells:
            raise ConfigurationError(
                f"queries is {self.queries}: with dense_proposals, give at most the frame's {cells} cells of 8 pixels"
            )


def arn_r50() -> ArnConfig:
    """Returns the paper's network: ResNet-50, 100 queries, 6 encoder and 3 + 3 decoder layers.

    It starts from DETR's weights, so that its entities pass through DETR's norm.
    """
    return ArnConfig(entity_norm=True)


def arn_compact() -> ArnConfig:
    """Returns a network that is small enough to train on two cores, with the training aids on."""
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

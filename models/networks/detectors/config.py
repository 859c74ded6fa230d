"""Configuration of the detector of the two-stage family."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from models.errors import ConfigurationError
from models.networks.ranges import Ratios, Share, Sizes, Widths


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DetectorConfig:
    """Shape of a detector. The defaults are the field's: ResNet-101-C4, stride 16.

    Raises ConfigurationError where fields contradict each other.

    anchor_sizes: square roots of the anchors' areas, in pixels.
    anchor_ratios: height / width of the anchors.
    proposals: R, number of regions of a frame that are classified.
    proposals_before_suppression: number of regions of a frame that suppression chooses from.
    proposal_iou: IoU over which a proposal is dropped beside a better one.
    object_iou: IoU over which an object is dropped beside a better one of its class.
    least_score: probability below which subjects and objects are dropped.
    pairs: P, number of pairs of a frame.
    persons: most subjects of a frame. Each is paired with the objects near it; a single one is paired with all objects.
    region_size: S, regions are pooled to S x S cells.
    region_samples: points along each side that a cell averages.
    sampled_regions: number of regions of a frame that a training step classifies.
    clip_length: most frames that run at once.
    compact_widths: channels of the compact backbone at strides 4, 8 and 16.
    compact_blocks: residual blocks of the compact backbone at these strides.
    compact_channels: C, channels of the compact backbone's map.
    compact_features: F, width of the features of the compact backbone's regions.
    """

    network: Literal["detector"] = "detector"
    frame_height: PositiveInt = 600
    frame_width: PositiveInt = 1072
    backbone: Literal["resnet101", "compact"] = "resnet101"
    anchor_sizes: Sizes = (64, 128, 256, 512)
    anchor_ratios: Ratios = (0.5, 1.0, 2.0)
    proposals: PositiveInt = 100
    proposals_before_suppression: PositiveInt = 6000
    proposal_iou: Share = 0.7
    object_iou: Share = 0.4
    least_score: Share = 0.1
    pairs: PositiveInt = 32
    persons: PositiveInt = 1
    region_size: PositiveInt = 7
    region_samples: PositiveInt = 2
    sampled_regions: PositiveInt = 64
    clip_length: PositiveInt = 16

    compact_widths: Widths = (32, 64, 128)
    compact_blocks: Widths = (1, 2, 2)
    compact_channels: PositiveInt = 96
    compact_features: PositiveInt = 256

    def __post_init__(self) -> None:
        if self.backbone == "compact" and (self.frame_height % 16 or self.frame_width % 16):
            raise ConfigurationError(
                f"the frame is {self.frame_width}x{self.frame_height} pixels: give multiples of 16"
            )
        if self.persons > min(self.proposals, self.pairs):
            raise ConfigurationError(
                f"persons is {self.persons}: give no more than proposals ({self.proposals}) or pairs ({self.pairs})"
            )
        anchors = self.map_size[0] * self.map_size[1] * len(self.anchor_sizes) * len(self.anchor_ratios)
        if self.proposals > min(self.proposals_before_suppression, anchors):
            raise ConfigurationError(
                f"proposals is {self.proposals}: give no more than proposals_before_suppression "
                f"({self.proposals_before_suppression}) or the frame's {anchors} anchors"
            )

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of the map that regions are pooled from."""
        return -(-self.frame_height // self.stride), -(-self.frame_width // self.stride)

    @property
    def stride(self) -> int:
        """Pixels per cell of the map that regions are pooled from."""
        return 16 if self.backbone == "resnet101" else 8

    @property
    def map_channels(self) -> int:
        """C, channels of the map that regions are pooled from."""
        return 1024 if self.backbone == "resnet101" else self.compact_channels

    @property
    def feature_width(self) -> int:
        """F, width of the features of a region."""
        return 2048 if self.backbone == "resnet101" else self.compact_features

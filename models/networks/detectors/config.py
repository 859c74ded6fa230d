"""Configuration of the detector of the two-stage family."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from models.errors import ConfigurationError

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DetectorConfig:
    """Everything that decides the shape of a detector. The defaults are the field's: ResNet-101-C4, stride 16."""

    network: Literal["detector"] = "detector"
    frame_height: int = 600
    frame_width: int = 1072
    backbone: Literal["resnet101", "compact"] = "resnet101"
    anchor_sizes: tuple[int, ...] = (64, 128, 256, 512)
    """Square roots of the anchors' areas in pixels."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    proposals: int = 100
    """R: regions of a frame that are classified."""
    proposals_before_suppression: int = 6000
    proposal_iou: Share = 0.7
    """Proposals that overlap a better one by more are dropped."""
    object_iou: Share = 0.4
    """Objects that overlap a better one of their class by more are dropped."""
    least_score: Share = 0.1
    """Subjects and objects with a lower probability are dropped."""
    pairs: int = 32
    """P: pairs of a frame."""
    persons: Annotated[int, Field(ge=1)] = 1
    """Most subjects of a frame, each paired with the objects near it; with one, it is paired with all objects."""
    region_size: int = 7
    """S: regions are pooled to S x S cells."""
    region_samples: int = 2
    """Points per side that each of those cells averages."""
    sampled_regions: int = 64
    """Regions of a frame that a training step classifies."""
    clip_length: int = 16
    """Most frames that run at once."""

    compact_widths: tuple[int, int, int] = (32, 64, 128)
    """Channels of the compact backbone at strides 4, 8 and 16."""
    compact_blocks: tuple[int, int, int] = (1, 2, 2)
    compact_channels: int = 96
    """C of the compact backbone's map."""
    compact_features: int = 256
    """F of the compact backbone's regions."""

    def __post_init__(self) -> None:
        if self.backbone == "compact" and (self.frame_height % 16 or self.frame_width % 16):
            raise ConfigurationError(
                f"frame {self.frame_width}x{self.frame_height} must be a multiple of 16 in both directions"
            )
        if self.persons > min(self.proposals, self.pairs):
            raise ConfigurationError(
                f"persons is {self.persons}: give no more than proposals ({self.proposals}) or pairs ({self.pairs})"
            )
        anchors = self.map_size[0] * self.map_size[1] * len(self.anchor_sizes) * len(self.anchor_ratios)
        if self.proposals > min(self.proposals_before_suppression, anchors):
            raise ConfigurationError(
                f"proposals ({self.proposals}) must not be more than proposals_before_suppression "
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
        """C."""
        return 1024 if self.backbone == "resnet101" else self.compact_channels

    @property
    def feature_width(self) -> int:
        """F."""
        return 2048 if self.backbone == "resnet101" else self.compact_features

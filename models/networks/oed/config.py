"""Configuration of OED."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from models.errors import ConfigurationError

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class OedConfig:
    """Shape of an OED network. The defaults are the published spatial network's.

    Raises ConfigurationError where fields contradict each other.

    clip_length: most frames along time. A frame finds its reference frames within its clip.
    instance_layers: layers of the decoder whose queries find pairs of boxes.
    interaction_layers: layers of the decoder that finds the predicates of these pairs.
    kept_pairs: for each layer of the temporal module, the pairs that it looks at, as many for each reference frame on
        average. They are the best of all reference frames together. Empty for the spatial network.
    reference_frames: number of reference frames of a frame.
    reference_distance: most sampled frames between a frame and its reference frames.
    """

    network: Literal["oed"] = "oed"
    frame_height: Annotated[int, Field(ge=32, le=4096)] = 600
    frame_width: Annotated[int, Field(ge=32, le=4096)] = 800
    clip_length: PositiveInt = 32

    backbone: Backbone = "resnet50"
    width: PositiveInt = 256
    heads: PositiveInt = 8
    feed_forward: PositiveInt = 2048
    encoder_layers: NonNegativeInt = 6
    instance_layers: PositiveInt = 6
    interaction_layers: PositiveInt = 6
    queries: PositiveInt = 100

    kept_pairs: tuple[PositiveInt, ...] = ()
    reference_frames: Annotated[int, Field(ge=2)] = 2
    reference_distance: PositiveInt = 4

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 4:
            raise ConfigurationError(f"width is {self.width}: give a multiple of 4 and of heads ({self.heads})")
        if self.kept_pairs and self.kept_pairs[0] > self.queries:
            raise ConfigurationError(
                f"kept_pairs begins with {self.kept_pairs[0]}: give at most the {self.queries} queries of a frame"
            )
        if list(self.kept_pairs) != sorted(self.kept_pairs, reverse=True):
            raise ConfigurationError(f"kept_pairs is {self.kept_pairs}: give the largest number first")

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of the backbone's map, whose cells have 32 pixels."""
        return -(-self.frame_height // 32), -(-self.frame_width // 32)

"""Configuration that all relation networks share."""

from __future__ import annotations

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from models.errors import ConfigurationError
from models.networks.ranges import Dropout


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RelationConfig:
    """Shapes of the detector's output, and widths that every network of the family has. The defaults are STTran's.

    Raises ConfigurationError where the pair's width D is odd or not a multiple of `heads`.

    feature_width: F of `Pairs`.
    union_channels: M of `Pairs`, channels of the region around both boxes.
    union_size: S of `Pairs`.
    clip_features: represents the region around a pair by its CLIP embedding instead of by the detector's map and the
        box masks.
    clip_width: E of `Pairs`, width of CLIP's embeddings.
    whole_video: shows the network whole videos, in a stage of span `video`, instead of clips. Needs a detector with one
        subject a frame.
    visual_width: width of each of the projected subject, object and union features.
    word_width: width of the embeddings of the subject's and the object's class.
    """

    feature_width: PositiveInt = 2048
    union_channels: PositiveInt = 1024
    union_size: PositiveInt = 7
    clip_features: bool = False
    clip_width: PositiveInt = 512
    whole_video: bool = False
    visual_width: PositiveInt = 512
    word_width: PositiveInt = 200
    heads: PositiveInt = 8
    feed_forward: PositiveInt = 2048
    dropout: Dropout = 0.1

    @property
    def width(self) -> int:
        """D, width of a pair: three visual parts and two words."""
        return 3 * self.visual_width + 2 * self.word_width

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise ConfigurationError(
                f"the pair's width, 3 x visual_width + 2 x word_width, is {self.width}: "
                f"make it an even multiple of heads ({self.heads})"
            )

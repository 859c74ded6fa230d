"""Configuration that all relation networks share."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from models.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class RelationConfig:
    """What the detector gives, and widths that every network of the family has; the defaults are STTran's."""

    feature_width: int = 2048
    """F of `Pairs`."""
    union_channels: int = 1024
    """C of `Pairs`."""
    union_size: int = 7
    """S of `Pairs`."""
    clip_features: bool = False
    """Represent the region around a pair by its CLIP embedding instead of by the detector's map and box masks."""
    clip_width: int = 512
    visual_width: int = 512
    """Of each of the projected subject, object and union features."""
    word_width: int = 200
    heads: int = 8
    feed_forward: int = 2048
    dropout: float = 0.1

    @property
    def width(self) -> int:
        """D: three visual parts and two words."""
        return 3 * self.visual_width + 2 * self.word_width

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise ConfigurationError(
                f"the pair's width {self.width} (3 x visual_width + 2 x word_width) must be even and a multiple of "
                f"heads ({self.heads})"
            )

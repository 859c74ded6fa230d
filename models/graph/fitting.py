"""The ways in which pictures are fitted to frames of another shape."""

from __future__ import annotations

from typing import Final, Literal

Fit = Literal["stretch", "pad"]
"""How a picture fills a frame.

stretch: width and height are scaled each by its own factor, so that the picture fills the frame.
pad: both are scaled by one factor. The picture lies in the upper left corner, and the rest of the frame is black.
"""
FITS: Final[tuple[Fit, ...]] = ("stretch", "pad")

Size = tuple[int, int]
"""Width and height in pixels."""


def filled(frame: Size, picture: Size, fit: Fit) -> Size:
    """Returns the part of a frame, from its upper left corner, that a picture fills."""
    if fit == "stretch":
        return frame
    scale = min(frame[0] / picture[0], frame[1] / picture[1])
    return max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))


def spanned(frame: Size, picture: Size, fit: Fit) -> tuple[float, float]:
    """Returns the width and height that the whole frame would have in pixels of the picture."""
    width, height = filled(frame, picture, fit)
    return picture[0] * frame[0] / width, picture[1] * frame[1] / height

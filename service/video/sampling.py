"""What goes into decoding and what comes out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAXIMUM_FPS = 60.0
"""That may be asked for; frames at a higher rate say nothing new."""
EVERY_FRAME = 1000.0
"""Samples every frame that is on display for two milliseconds or longer."""
MAXIMUM_SIDE = 8192
MINIMUM_MEMORY = 512 * 2**20
"""The interpreter and the codec libraries alone reserve some 300 MiB of address space."""


@dataclass(frozen=True)
class VideoInfo:
    """One video. `width` and `height` are pixels of the displayed (rotated) video, times are seconds.

    Pixels are those that are stored: an anamorphic video is not widened.
    """

    width: int
    height: int
    duration: float | None
    frame_rate: float | None
    codec: str


@dataclass(frozen=True)
class Sampling:
    """Which frames to take: those on display at `start + k / fps`, k = 0, 1, …, before `end` (seconds, exclusive).

    Frames are stretched to `height` x `width`. Raises ValueError for values that make no sense.
    """

    fps: float
    max_frames: int
    height: int
    width: int
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.fps <= EVERY_FRAME:
            raise ValueError(f"fps is {self.fps}; it must be above 0 and at most {EVERY_FRAME:g}")
        if self.max_frames < 1:
            raise ValueError(f"max_frames is {self.max_frames}; it must be at least 1")
        for side in ("height", "width"):
            if not 1 <= getattr(self, side) <= MAXIMUM_SIDE:
                raise ValueError(f"{side} is {getattr(self, side)}; it must be from 1 to {MAXIMUM_SIDE}")
        if not (math.isfinite(self.start) and self.start >= 0.0):
            raise ValueError(f"start is {self.start} s; it must be 0 or more")
        if self.end is not None and not (math.isfinite(self.end) and self.end > self.start):
            raise ValueError(f"end is {self.end} s; it must be after start, {self.start} s")


@dataclass(frozen=True)
class DecodeLimits:
    """What decoding one video may take. Raises ValueError for limits that no video could be decoded in."""

    seconds: float = 900.0
    """Wall clock, counted only while somebody waits for the decoder: a slow consumer does not use it up."""
    cpu_seconds: int = 1800
    """Processor time over all threads."""
    memory_bytes: int = 2 * 2**30
    """Address space of the decoder process. Ten-bit 8K video needs half of the default."""
    max_pixels: int = 7680 * 4320
    """Pixels of one frame as stored."""
    chunk_frames: int = 4
    """Most frames in one FrameChunk; up to two chunks exist at a time."""
    threads: int = 1
    """Of one decoder process. A second one shortens the wait for a single video and costs processor time."""

    def __post_init__(self) -> None:
        for name in ("seconds", "cpu_seconds", "max_pixels", "chunk_frames", "threads"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.memory_bytes < MINIMUM_MEMORY:
            raise ValueError(f"memory_bytes is {self.memory_bytes}; it must be at least {MINIMUM_MEMORY}")


@dataclass(frozen=True)
class FrameChunk:
    """Consecutive sampled frames.

    `timestamps` (n,) float64 are presentation times in seconds after the first frame of the video, strictly
    increasing; `frames` (n, height, width, 3) uint8 are RGB.
    """

    timestamps: NDArray[np.float64]
    frames: NDArray[np.uint8]

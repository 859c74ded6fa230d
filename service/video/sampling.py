"""Values that go into decoding and values that come out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAXIMUM_FPS = 60.0  # most that a caller may ask for; frames at a higher rate say nothing new
EVERY_FRAME = 1000.0  # an fps that takes every frame that is displayed for two milliseconds or longer
MAXIMUM_SIDE = 8192
MINIMUM_MEMORY = 512 * 2**20  # the interpreter and the codec libraries alone reserve some 300 MiB of addresses


@dataclass(frozen=True)
class VideoInfo:
    """Describes one video.

    width, height: pixels of the displayed (rotated) video.
        They are the stored pixels: an anamorphic video is not widened.
    duration: seconds, None where the file does not say.
    frame_rate: frames per second, None where neither the file nor its packets tell.
    codec: name as FFmpeg has it.
    """

    width: int
    height: int
    duration: float | None
    frame_rate: float | None
    codec: str


@dataclass(frozen=True)
class Sampling:
    """Says which frames to take, and of which size: those on display at `start + k / fps`, k = 0, 1, …, before `end`.

    fps: frames per second.
    max_frames: most frames to take.
    height, width: size in pixels to which frames are stretched.
    start, end: seconds; `end` is exclusive, and None for the end of the video.

    Raises ValueError for values that make no sense.
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
    """Limits what decoding one video may take.

    seconds: wall clock.
        It runs only while somebody waits for the decoder: a slow consumer does not use it up.
    cpu_seconds: processor time of all threads together.
    memory_bytes: address space of the decoder process.
        Ten-bit 8K video needs half of the default.
    max_pixels: pixels of one frame as stored.
    chunk_frames: most frames in one FrameChunk.
        Up to two chunks exist at a time.
    threads: threads of one decoder process.
        A second one shortens the wait for a single video and costs processor time.

    Raises ValueError for limits within which no video can be decoded.
    """

    seconds: float = 900.0
    cpu_seconds: int = 1800
    memory_bytes: int = 2 * 2**30
    max_pixels: int = 7680 * 4320
    chunk_frames: int = 4
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("seconds", "cpu_seconds", "max_pixels", "chunk_frames", "threads"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.memory_bytes < MINIMUM_MEMORY:
            raise ValueError(f"memory_bytes is {self.memory_bytes}; it must be at least {MINIMUM_MEMORY}")


@dataclass(frozen=True)
class FrameChunk:
    """Holds consecutive sampled frames.

    timestamps: (n,) float64, strictly increasing presentation times.
        Seconds after the first frame of the video.
    frames: (n, height, width, 3) uint8 RGB.
    """

    timestamps: NDArray[np.float64]
    frames: NDArray[np.uint8]

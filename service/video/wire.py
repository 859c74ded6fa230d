"""The traffic between the decoder process and its parent: values of decoding, and the messages that carry them.

A message is JSON with a length in front. A chunk's arrays follow it raw.

parent -> child   one line: the Request
child -> parent   ready, info, any number of chunks, then end; or, at any point, error (the video is at fault) or
                  defect (the code is at fault; it brings a trace for the log)
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.graph.fitting import FITS, Fit
from service.errors import ServiceError
from service.video.containers import Container
from service.video.errors import UnsupportedMedia, VideoError

MAXIMUM_FPS = 60.0  # most that a caller may ask for; frames at a higher rate say nothing new
EVERY_FRAME = 1000.0  # an fps that takes every frame that is displayed for two milliseconds or longer
MAXIMUM_SIDE = 8192
MINIMUM_MEMORY = 512 * 2**20  # the interpreter and the codec libraries alone reserve some 300 MiB of addresses
LENGTH = struct.Struct("<I")
MAXIMUM_MESSAGE = 64 * 2**10
EXIT_STATUS = struct.Struct("<i")  # what `os.waitpid` says of a process that has ended
VIDEO_FILE = 3  # file descriptor of the video in the child
# What a child may report about its video.
_REPORTED: tuple[type[ServiceError], ...] = (UnsupportedMedia, *VideoError.__subclasses__())
_ERRORS = {error.__name__: error for error in _REPORTED}


@dataclass(frozen=True)
class VideoInfo:
    """Describes one video.

    width, height: pixels of the displayed video: turned, mirrored, and with square pixels.
    duration: seconds from the first frame to the end, None where the file does not say.
    frame_rate: frames per second, None where neither the file nor its packets tell.
    codec: name as FFmpeg has it.
    start: seconds on a player's clock at which the first frame is shown, our 0.
    """

    width: int
    height: int
    duration: float | None
    frame_rate: float | None
    codec: str
    start: float


@dataclass(frozen=True)
class Sampling:
    """Says which frames to take, and of which size: those on display at `start + k / fps`, k = 0, 1, …, before `end`.

    fps: frames per second.
    max_frames: most frames to take.
    height, width: size of the frames in pixels.
    start, end: seconds; `end` is exclusive, and None for the end of the video.
    fit: how the picture fills a frame of another shape.

    Raises ValueError for values that make no sense.
    """

    fps: float
    max_frames: int
    height: int
    width: int
    start: float = 0.0
    end: float | None = None
    fit: Fit = "stretch"

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
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}; it must be one of {', '.join(FITS)}")


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


class Defect(Exception):  # noqa: N818 - the message reports an error, and is none itself
    """The child met an error that its code does not expect. The message is the trace."""


@dataclass(frozen=True)
class Request:
    """Says what the child decodes.

    container: chooses the demuxer.
    sampling: frames to take.
    limits: what decoding may take.
    path: the video.
        It is a file descriptor, so that no file name can choose another demuxer.
    """

    container: Container
    sampling: Sampling
    limits: DecodeLimits
    path: str = f"/proc/self/fd/{VIDEO_FILE}"

    def to_json(self) -> str:
        """Returns the request as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Reads what `to_json` wrote."""
        values = json.loads(text)
        return cls(
            container=Container(values["container"]),
            sampling=Sampling(**values["sampling"]),
            limits=DecodeLimits(**values["limits"]),
            path=values["path"],
        )


def encode_message(kind: str, **fields: Any) -> bytes:
    """Returns the bytes of one message."""
    body = json.dumps({"kind": kind, **fields}).encode()
    return LENGTH.pack(len(body)) + body


def decode_message(body: bytes | bytearray, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Returns the fields of a message that must be of one of the kinds.

    Raises the ServiceError that the child reports, and Defect. Raises ValueError, TypeError or KeyError for anything
    else.
    """
    fields: dict[str, Any] = json.loads(body)
    kind = fields.pop("kind")
    if kind == "error":
        raise _ERRORS[fields["error"]](str(fields["detail"]))
    if kind == "defect":
        raise Defect(fields["trace"])
    if kind not in kinds:
        raise ValueError(f"the message is of kind {kind!r}, not of {kinds}")
    return fields

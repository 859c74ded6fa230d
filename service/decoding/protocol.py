"""How the decoder process talks to its parent: JSON messages with a length in front; a chunk's arrays follow raw.

    parent -> child   one message: the Request
    child -> parent   ready, info, any number of chunks, then end; or at any point error (the video's fault) or
                      defect (ours, with a trace for the log)
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

from service.decoding.sniffing import Container
from service.decoding.video import DecodeLimits, Sampling
from service.errors import (
    DecodeMemory,
    DecodeTimeout,
    NoVideoStream,
    RangeOutsideVideo,
    UnsupportedMedia,
    VideoError,
    VideoTooLarge,
    VideoUnreadable,
)

LENGTH = struct.Struct("<I")
MAXIMUM_MESSAGE = 64 * 2**10
ERRORS: dict[str, type[VideoError] | type[UnsupportedMedia]] = {
    error.__name__: error
    for error in (
        DecodeMemory,
        DecodeTimeout,
        NoVideoStream,
        RangeOutsideVideo,
        UnsupportedMedia,
        VideoTooLarge,
        VideoUnreadable,
    )
}
"""The errors that travel from the child to its parent, by class name."""


@dataclass(frozen=True)
class Request:
    """What the child is to decode. `path` is of the form /proc/self/fd/N: no name of it could choose a demuxer."""

    path: str
    container: Container
    sampling: Sampling
    limits: DecodeLimits

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        values = json.loads(text)
        return cls(
            path=values["path"],
            container=Container(values["container"]),
            sampling=Sampling(**values["sampling"]),
            limits=DecodeLimits(**values["limits"]),
        )


def encode_message(kind: str, **fields: Any) -> bytes:
    """One message, ready to be written."""
    body = json.dumps({"kind": kind, **fields}).encode()
    return LENGTH.pack(len(body)) + body

"""How the decoder process talks to its parent: JSON messages with a length in front; a chunk's arrays follow raw.

What is said, in order:

    parent -> child   one message: the Request
    child -> parent   ready, info, any number of chunks, then end; or at any point error (the video's fault) or
                      defect (ours, with a trace for the log)
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

from service.errors import ServiceError
from service.video.errors import (
    DecodeMemory,
    NoVideoStream,
    RangeOutsideVideo,
    UnsupportedMedia,
    VideoTooLarge,
    VideoUnreadable,
)
from service.video.sampling import DecodeLimits, Sampling
from service.video.sniffing import Container

LENGTH = struct.Struct("<I")
EXIT_STATUS = struct.Struct("<i")
"""What the spawner says of a process that has ended, as `os.waitpid` has it."""
VIDEO_FILE = 3
"""The video among the file descriptors of the child."""
MAXIMUM_MESSAGE = 64 * 2**10
_ERRORS: dict[str, type[ServiceError]] = {
    error.__name__: error
    for error in (
        DecodeMemory,
        NoVideoStream,
        RangeOutsideVideo,
        UnsupportedMedia,
        VideoTooLarge,
        VideoUnreadable,
    )
}


class Defect(Exception):  # noqa: N818 - it is reported by an error, and is none itself
    """The child met an error that it was not written for; the message is its trace."""


@dataclass(frozen=True)
class Request:
    """What the child is to decode. No name that somebody gave the file could choose a demuxer: `path` has none."""

    container: Container
    sampling: Sampling
    limits: DecodeLimits
    path: str = f"/proc/self/fd/{VIDEO_FILE}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        values = json.loads(text)
        return cls(
            container=Container(values["container"]),
            sampling=Sampling(**values["sampling"]),
            limits=DecodeLimits(**values["limits"]),
            path=values["path"],
        )


def encode_message(kind: str, **fields: Any) -> bytes:
    """One message, ready to be written."""
    body = json.dumps({"kind": kind, **fields}).encode()
    return LENGTH.pack(len(body)) + body


def decode_message(body: bytes | bytearray, kinds: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a message of one of the kinds.

    Raises the ServiceError that the child reports, Defect, and ValueError, TypeError or KeyError for any other message.
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

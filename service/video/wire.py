"""Messages between the decoder process and its parent: JSON with a length in front. A chunk's arrays follow it raw.

parent -> child   one line: the Request
child -> parent   ready, info, any number of chunks, then end; or, at any point, error (the video is at fault) or
                  defect (the code is at fault; it brings a trace for the log)
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

from service.errors import ServiceError
from service.video.containers import Container
from service.video.errors import (
    DecodeMemory,
    NoVideoStream,
    RangeOutsideVideo,
    UnsupportedMedia,
    VideoTooLarge,
    VideoUnreadable,
)
from service.video.sampling import DecodeLimits, Sampling

LENGTH = struct.Struct("<I")
MAXIMUM_MESSAGE = 64 * 2**10
EXIT_STATUS = struct.Struct("<i")  # what `os.waitpid` says of a process that has ended
VIDEO_FILE = 3  # file descriptor of the video in the child
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

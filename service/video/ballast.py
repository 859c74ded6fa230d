"""Hides what a file carries beside its streams, such as fonts and covers, from FFmpeg. Runs in the decoder process.

FFmpeg keeps all of it in memory, several times over: an attachment of 200 MB took 800 MB.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from service.video.containers import Container
from service.video.elements import Element, boxes, descend, ebml_elements

_LIGHT = 2**20  # bytes; so much costs little
_SEGMENT = b"\x18\x53\x80\x67"
_BESIDE_STREAMS = {b"\x19\x41\xa4\x69", b"\x12\x54\xc3\x67", b"\x10\x43\xa7\x70"}  # attachments, tags, chapters
_DESCRIPTIONS = {b"udta", b"meta", b"uuid"}


@dataclass(frozen=True)
class Patch:
    """Other bytes for a place in a file, which is `at` bytes from its beginning."""

    at: int
    content: bytes


def ballast(file: int, container: Container) -> list[Patch]:
    """Returns the patches, in order, that make the parts beside the streams empty space for a demuxer.

    There are none where those parts are small, and for containers that keep nothing large beside their streams.

    file: descriptor.
    """
    size = os.fstat(file).st_size
    if container is Container.MP4:
        return [Patch(box.begin + 4, b"free") for box in _if_heavy(_descriptions(file, size))]
    if container is Container.MATROSKA:
        return [_as_void(part) for part in _if_heavy(_beside_streams(file, size))]
    return []


def _if_heavy(elements: Iterator[Element]) -> list[Element]:
    parts = list(elements)
    return parts if sum(part.end - part.begin for part in parts) > _LIGHT else []


def _descriptions(file: int, size: int) -> Iterator[Element]:
    for box in boxes(file, 0, size):
        if box.kind in _DESCRIPTIONS:
            yield box
        elif box.kind == b"moov":
            for part in boxes(file, box.body, box.end):
                inner = boxes(file, part.body, part.end) if part.kind == b"trak" else [part]
                yield from (each for each in inner if each.kind in _DESCRIPTIONS)


def _beside_streams(file: int, size: int) -> Iterator[Element]:
    for segment in descend(ebml_elements, file, 0, size, _SEGMENT):
        yield from (part for part in ebml_elements(file, segment.body, segment.end) if part.kind in _BESIDE_STREAMS)


def _as_void(element: Element) -> Patch:
    """Returns the head of a Void element that ends where the element ends."""
    # The identifier of Void has one byte; the size of its content has up to eight.
    length = min(8, element.body - element.begin - 1)
    content = element.end - element.begin - 1 - length
    return Patch(element.begin, b"\xec" + (content | 1 << 7 * length).to_bytes(length))


class PatchedFile:
    """A file that reads as if some of its bytes were others. PyAV takes it in place of a path."""

    def __init__(self, file: int, patches: list[Patch]) -> None:
        """
        file: descriptor; the caller closes it.
        patches: in order.
        """
        self._file = file
        self._patches = patches
        self._begins = [patch.at for patch in patches]
        self._position = 0

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes, none at the end."""
        begin = self._position
        data = os.pread(self._file, size, begin)
        self._position += len(data)
        # A patch that began before this piece may reach into it.
        earliest = max(0, bisect_right(self._begins, begin) - 1)
        for patch in self._patches[earliest : bisect_left(self._begins, self._position)]:
            first, last = max(patch.at, begin), min(patch.at + len(patch.content), self._position)
            if first < last:
                changed = patch.content[first - patch.at : last - patch.at]
                data = data[: first - begin] + changed + data[last - begin :]
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves, and returns the new position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: os.fstat(self._file).st_size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Returns the position."""
        return self._position

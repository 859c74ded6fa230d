"""Hides what a file carries beside its streams, such as fonts and covers, from FFmpeg. Runs in the decoder process.

FFmpeg keeps all of it in memory, several times over: an attachment of 200 MB took 800 MB, a comment of 120 MB in Ogg
500 MB.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from service.video.containers import Container
from service.video.elements import Element, boxes, chunks, descend, ebml_elements, ogg_pages

_LIGHT = 2**20  # bytes; so much costs little
_SEGMENT = b"\x18\x53\x80\x67"
_BESIDE_STREAMS = {b"\x19\x41\xa4\x69", b"\x12\x54\xc3\x67", b"\x10\x43\xa7\x70"}  # attachments, tags, chapters
_DESCRIPTIONS = {b"udta", b"meta", b"uuid"}
_LISTS = {b"AVI ", b"AVIX", b"hdrl", b"strl", b"odml"}
_WORDS = {b"INFO", b"ncdt", b"strn", b"strd"}  # descriptions, names and data of a camera's own
_COMMENTS = (b"\x81theora", b"\x03vorbis", b"OpusTags", b"OVP80\x02", b"\x82daala")
_OGG_FLAC = b"\x7fFLAC"
_FLAC_EXTRAS = {1, 2, 4, 6}  # kinds of packets: padding, data of programs, comments, pictures


@dataclass(frozen=True)
class Patch:
    """Other bytes for a place in a file.

    at: bytes from the beginning of the file.
    length: bytes that are replaced.
    content: what takes their place, of any length.
    """

    at: int
    length: int
    content: bytes


def ballast(file: int, container: Container) -> list[Patch]:
    """Returns the patches, in order, that make the parts beside the streams empty space, or take them out.

    There are none where those parts are small, and for containers that keep nothing large beside their streams.

    file: descriptor.
    """
    size = os.fstat(file).st_size
    if container is Container.MP4:
        return [Patch(box.begin + 4, 4, b"free") for box in _if_heavy(_descriptions(file, size))]
    if container is Container.MATROSKA:
        return [_as_void(part) for part in _if_heavy(_beside_streams(file, size))]
    if container is Container.AVI:
        return [Patch(part.begin, 4, b"JUNK") for part in _if_heavy(_words(file, 0, size))]
    if container is Container.OGG and size > _LIGHT:
        return [Patch(page.begin, page.end - page.begin, b"") for page in _if_heavy(_comment_pages(file, size))]
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


def _words(file: int, begin: int, end: int) -> Iterator[Element]:
    for part in chunks(file, begin, end):
        if part.kind in _LISTS:
            # FFmpeg does not ask where the file itself ends, which its writer may not have known.
            yield from _words(file, part.body, end if begin == 0 else part.end)
        elif part.kind in _WORDS:
            yield part


def _comment_pages(file: int, size: int) -> Iterator[Element]:
    """Yields the pages that have nothing but the middle of a comment: without them it is cut short."""
    in_comment: set[int] = set()
    of_flac: set[int] = set()
    for page in ogg_pages(file, size):
        if page.last is None and page.goes_on and page.stream in in_comment:
            yield Element(b"OggS", page.begin, page.begin, page.end)
            continue
        if page.last is None:
            if not page.goes_on:
                in_comment.discard(page.stream)
            continue
        in_comment.discard(page.stream)
        head = os.pread(file, 8, page.last)
        if head.startswith(_OGG_FLAC):
            of_flac.add(page.stream)
        elif page.goes_on and (
            head.startswith(_COMMENTS) or (page.stream in of_flac and head[0] & 0x7F in _FLAC_EXTRAS)
        ):
            in_comment.add(page.stream)


def _as_void(element: Element) -> Patch:
    """Returns the head of a Void element that ends where the element ends."""
    # The identifier of Void has one byte; the size of its content has up to eight.
    length = min(8, element.body - element.begin - 1)
    content = element.end - element.begin - 1 - length
    return Patch(element.begin, 1 + length, b"\xec" + (content | 1 << 7 * length).to_bytes(length))


@dataclass(frozen=True)
class _Piece:
    """Some bytes of a patched file, up to the next piece: those of the file from `at` on, or `content`."""

    begin: int
    at: int
    content: bytes | None = None


class PatchedFile:
    """A file that reads as if some of its bytes were others. PyAV takes it in place of a path."""

    def __init__(self, file: int, patches: list[Patch]) -> None:
        """
        file: descriptor; the caller closes it.
        patches: in order; none reaches into the next.
        """
        self._file = file
        self._pieces: list[_Piece] = []
        begin = at = 0
        for patch in patches:
            self._pieces += [_Piece(begin, at), _Piece(begin + patch.at - at, 0, patch.content)]
            begin += patch.at - at + len(patch.content)
            at = patch.at + patch.length
        self._pieces.append(_Piece(begin, at))
        self._size = begin + max(0, os.fstat(file).st_size - at)
        self._begins = [piece.begin for piece in self._pieces]
        self._ends = [*self._begins[1:], self._size]
        self._position = 0

    def read(self, size: int) -> bytes:
        """Returns `size` bytes, or as many as there are; none at the end."""
        found = bytearray()
        while len(found) < size and self._position < self._size:
            number = bisect_right(self._begins, self._position) - 1
            piece, end = self._pieces[number], self._ends[number]
            wanted, skipped = min(size - len(found), end - self._position), self._position - piece.begin
            if piece.content is None:
                data = os.pread(self._file, wanted, piece.at + skipped)
            else:
                data = piece.content[skipped : skipped + wanted]
            if not data:  # the file has become shorter
                break
            found += data
            self._position += len(data)
        return bytes(found)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves, and returns the new position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """Returns the position."""
        return self._position

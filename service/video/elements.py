"""Walks through the parts that MP4, Matroska, AVI and Ogg files consist of, and reads only their heads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_MOST = 100_000  # parts of one whole; a file of many hours has fewer, and a file that means harm ends here
_LONGEST_HEAD = 16  # bytes


@dataclass(frozen=True)
class Element:
    """A box of MP4, an element of Matroska or a chunk of AVI. Positions are bytes from the beginning of the file.

    kind: as the file has it: four letters, or the bytes of an EBML identifier; of a list in AVI, its own kind.
    begin: where its head begins.
    body: where its content begins.
    end: where its content ends.
    """

    kind: bytes
    begin: int
    body: int
    end: int


Walk = Callable[[int, int, int], Iterator[Element]]


def boxes(file: int, begin: int, end: int) -> Iterator[Element]:
    """Yields the boxes of an MP4 file that lie one after the other between two positions.

    file: descriptor. The file's own position does not matter and does not change.
    """
    for _ in range(_MOST):
        head = os.pread(file, _LONGEST_HEAD, begin)
        if begin + 8 > end or len(head) < 8:
            return
        size, length = int.from_bytes(head[:4]), 8
        if size == 1:
            size, length = int.from_bytes(head[8:16]), 16
        after = end if size == 0 else begin + size
        if after < begin + length:
            return
        yield Element(head[4:8], begin, begin + length, min(after, end))
        begin = after


def ebml_elements(file: int, begin: int, end: int) -> Iterator[Element]:
    """Yields the elements of a Matroska file that lie one after the other between two positions.

    An element of unknown size, as in a live recording, counts as the last one.

    file: descriptor. The file's own position does not matter and does not change.
    """
    for _ in range(_MOST):
        head = os.pread(file, _LONGEST_HEAD, begin)
        if begin + 2 > end or len(head) < 2 or head[0] < 0x10:
            return
        kind = head[: 9 - head[0].bit_length()]
        rest = head[len(kind) :]
        if not rest or not rest[0]:
            return
        length = 9 - rest[0].bit_length()
        size = int.from_bytes(rest[:length]) & (1 << 7 * length) - 1
        is_known = size != (1 << 7 * length) - 1
        body = begin + len(kind) + length
        yield Element(kind, begin, body, min(body + size, end) if is_known else end)
        if not is_known:
            return
        begin = body + size


def chunks(file: int, begin: int, end: int) -> Iterator[Element]:
    """Yields the chunks of an AVI file that lie one after the other between two positions.

    file: descriptor. The file's own position does not matter and does not change.
    """
    for _ in range(_MOST):
        head = os.pread(file, 12, begin)
        if begin + 8 > end or len(head) < 8:
            return
        size = int.from_bytes(head[4:8], "little")
        is_list = head[:4] in (b"RIFF", b"LIST") and len(head) == 12
        body = begin + (12 if is_list else 8)
        yield Element(head[8:] if is_list else head[:4], begin, body, max(body, min(begin + 8 + size, end)))
        begin += 8 + size + size % 2


@dataclass(frozen=True)
class OggPage:
    """A page of an Ogg file. Positions are bytes from the beginning of the file.

    stream: number of the stream that it belongs to.
    last: where the last packet in it begins; None where it only goes on with one from a page before.
    goes_on: whether that packet goes on in another page.
    """

    stream: int
    begin: int
    end: int
    last: int | None
    goes_on: bool


def ogg_pages(file: int, size: int) -> Iterator[OggPage]:
    """Yields the pages of an Ogg file, up to the first place where there is none.

    file: descriptor. The file's own position does not matter and does not change.
    """
    begin = 0
    for _ in range(_MOST):
        head = os.pread(file, 27 + 255, begin)
        if len(head) < 27 or head[:4] != b"OggS" or len(head) < 27 + head[26]:
            return
        lacing = head[27 : 27 + head[26]]
        body = begin + len(lacing) + 27
        end = body + sum(lacing)
        # A packet ends with a piece of fewer than 255 bytes.
        ends = [index + 1 for index, length in enumerate(lacing) if length < 255]
        goes_on = bool(lacing) and lacing[-1] == 255
        starts = ([] if head[5] & 1 else [0]) + [start for start in ends if start < len(lacing)]
        last = body + sum(lacing[: starts[-1]]) if starts else None
        yield OggPage(int.from_bytes(head[14:18], "little"), begin, min(end, size), last, goes_on)
        begin = end


def descend(walk: Walk, file: int, begin: int, end: int, *kinds: bytes) -> Iterator[Element]:
    """Yields the elements at a path: those of the last kind, in those of the kind before, and so on.

    walk: `boxes` or `ebml_elements`.
    """
    for element in walk(file, begin, end):
        if element.kind == kinds[0]:
            if len(kinds) == 1:
                yield element
            else:
                yield from descend(walk, file, element.body, element.end, *kinds[1:])

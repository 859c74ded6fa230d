"""Walks through the parts that MP4 and Matroska files consist of, and reads only their heads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_MOST = 100_000  # parts of one whole; a file of many hours has fewer, and a file that means harm ends here
_LONGEST_HEAD = 16  # bytes


@dataclass(frozen=True)
class Element:
    """A box of MP4 or an element of Matroska. Positions are bytes from the beginning of the file.

    kind: as the file has it: four letters, or the bytes of an EBML identifier.
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

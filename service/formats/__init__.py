"""A stored scene graph in the formats of other programs.

json: the graph as it is stored.
jsonl: its frames, one on a line.
graphml: objects as nodes and relations as edges, for networkx, Gephi and other graph tools.
coco: boxes as COCO annotations with tracks, triplets beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, get_args

from service.errors import InvalidOption
from service.formats.coco import coco_document
from service.formats.graphml import graphml_document
from service.graph import GraphReader

Format = Literal["json", "jsonl", "graphml", "coco"]
MEDIA_TYPES: Final[Mapping[Format, str]] = {
    "json": "application/json",
    "jsonl": "application/jsonl",
    "graphml": "application/graphml+xml",
    "coco": "application/vnd.coco+json",
}
_BLOCK = 1 << 16
"""Least bytes of every block but the last: to send a block costs a turn of a thread."""


def parse_format(text: str) -> Format:
    """Reads the name of a format. Raises InvalidOption with the names there are."""
    for name in get_args(Format):
        if name == text:
            return name  # type: ignore[no-any-return]
    raise InvalidOption("format", f"format is {text[:40]!r}, but must be one of {', '.join(get_args(Format))}")


def formatted(blocks: Iterable[bytes], form: Format) -> Iterator[bytes]:
    """The document that `write_graph` has written, read in `blocks` that are cut anywhere, in another format.

    Frames pass one after the other; nothing is read before the first block of the answer is asked for. Raises
    ValueError for a document that `write_graph` has not written, and the errors of reading a block.
    """
    if form == "json":
        yield from blocks
    else:
        yield from _gathered(_WRITERS[form](GraphReader(blocks)))


def _gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= _BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _frame_lines(graph: GraphReader) -> Iterator[bytes]:
    for frame in graph.frames():
        yield frame + b"\n"


_WRITERS: Mapping[Format, Callable[[GraphReader], Iterator[bytes]]] = {
    "jsonl": _frame_lines,
    "graphml": graphml_document,
    "coco": coco_document,
}

"""A scene graph as a JSON document that is written and read in one pass and never held whole.

It is the JSON of `SceneGraph`, in lines: what comes before the frames, every frame, what comes after them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO

from models.graph.scene_graph import Frame, GraphHead, GraphTail, ModelReference, Options, Relation, Video, Warning
from models.graph.vocabulary import Vocabulary

_FRAMES_BEGIN = b',"frames":['
_FRAMES_END = b"],"


def write_graph(
    out: BinaryIO,
    *,
    id: str,
    video: Video,
    model: ModelReference,
    options: Options,
    vocabulary: Vocabulary,
    frames: Iterable[Frame],
    relations: Sequence[Relation],
    prompt: Callable[[], str],
    timings: Callable[[], Mapping[str, float]],
    warnings: Sequence[Warning],
    kept_frames: Callable[[], Sequence[int]] = tuple,
) -> None:
    """Writes the graph of a video that succeeded.

    `frames` may be made while they are written. When all are written, `prompt`, `kept_frames` and then `timings` are
    called and `warnings` is read, so that they may depend on them.
    """
    head = GraphHead(id=id, video=video, model=model, options=options, vocabulary=vocabulary)
    out.write(head.model_dump_json().encode().removesuffix(b"}") + _FRAMES_BEGIN)
    separator = b"\n"
    for frame in frames:
        out.write(separator + frame.model_dump_json().encode())
        separator = b",\n"
    told, kept = prompt(), list(kept_frames())
    tail = GraphTail(
        relations=list(relations), prompt=told, timings=dict(timings()), warnings=list(warnings), kept_frames=kept
    )
    out.write(b"\n" + _FRAMES_END + tail.model_dump_json().encode().removeprefix(b"{"))


class GraphReader:
    """Reads a document of `write_graph` in order: `head`, then the frames, then the tail."""

    head: GraphHead

    def __init__(self, blocks: Iterable[bytes]) -> None:
        """Raises ValueError when the document is not one of `write_graph`.

        blocks: the document, cut anywhere.
        """
        self._lines = _lines(blocks)
        line = next(self._lines, b"")
        if not line.endswith(_FRAMES_BEGIN):
            raise ValueError("the stored graph does not have its frames on lines of their own; make it again")
        self.head = GraphHead.model_validate_json(line.removesuffix(_FRAMES_BEGIN) + b"}")
        self._last = b""

    def frames(self) -> Iterator[bytes]:
        """The JSON of every frame. Raises ValueError when the document is cut short."""
        for line in self._lines:
            if line.startswith(_FRAMES_END):
                self._last = line
                return
            yield line.removesuffix(b",")
        raise ValueError("the stored graph is cut short; make it again")

    def tail(self) -> GraphTail:
        """The part after the frames; those that were not read are skipped. Raises ValueError as `frames` does."""
        if not self._last:
            for _ in self.frames():
                pass
        return GraphTail.model_validate_json(b"{" + self._last.removeprefix(_FRAMES_END))


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    begun: list[bytes] = []
    for block in blocks:
        first, *rest = block.split(b"\n")
        begun.append(first)
        for start in rest:
            yield b"".join(begun)
            begun = [start]
    yield b"".join(begun)

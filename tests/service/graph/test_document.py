"""A graph is written in one pass and reads as the model of it says."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from models.graph.scene_graph import Frame, ModelReference, Options, Relation, SceneGraph, SceneObject, Video, Warning
from models.graph.vocabulary import ACTION_GENOME
from service.graph import GraphReader, write_graph

VIDEO = Video(sha256="ab", width=64, height=48, duration=None, frame_rate=25.0, codec="h264")
MODEL = ModelReference(name='ti"ny\n', version="1", engine="onnxruntime-cpu", precision="fp32")
OPTIONS = Options(fps=2, start=0, end=None, max_frames=10, min_score=0.2, top_k=5, constraint="with")
RELATION = Relation(subject=1, predicate="holding", object=4, start=0, end=1, score=1, relation_score=None)
WARNING = Warning(code="cut_short", detail="line one\nline two, …")


def frame(index: int) -> Frame:
    person = SceneObject(id=1, label="person", score=0.98, box=(1.0, 2.0, 30.0, 40.0))
    return Frame(index=index, timestamp=index / 2, objects=[person], triplets=[])


def written(frames: Iterator[Frame], out: io.BytesIO) -> SceneGraph:
    """Writes a graph; returns the one that was meant."""
    seen: list[Frame] = []
    warnings: list[Warning] = []

    def noted() -> Iterator[Frame]:
        for each in frames:
            seen.append(each)
            yield each
        warnings.append(WARNING)

    write_graph(
        out,
        id="a",
        video=VIDEO,
        model=MODEL,
        options=OPTIONS,
        vocabulary=ACTION_GENOME,
        frames=noted(),
        relations=[RELATION],
        prompt=lambda: f'"{len(seen)} frames"],\n',
        timings=lambda: {"total": 0.5 * len(seen)},
        warnings=warnings,
        kept_frames=lambda: range(1, len(seen)),
    )
    return SceneGraph(
        id="a",
        video=VIDEO,
        model=MODEL,
        options=OPTIONS,
        frames=seen,
        relations=[RELATION],
        prompt=f'"{len(seen)} frames"],\n',
        timings={"total": 0.5 * len(seen)},
        warnings=[WARNING],
        kept_frames=list(range(1, len(seen))),
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_document_is_the_json_of_the_graph_in_lines(count: int) -> None:
    out = io.BytesIO()
    graph = written(map(frame, range(count)), out)
    assert SceneGraph.model_validate_json(out.getvalue()) == graph
    assert out.getvalue().replace(b"\n", b"").decode() == graph.model_dump_json()


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("block", [1, 7, 100_000])
def test_head_frames_and_tail_are_read_back_from_any_blocks(count: int, block: int) -> None:
    out = io.BytesIO()
    graph = written(map(frame, range(count)), out)
    content = out.getvalue()
    reader = GraphReader(content[start : start + block] for start in range(0, len(content), block))
    assert reader.head.model_dump() == {name: graph.model_dump()[name] for name in type(reader.head).model_fields}
    assert [Frame.model_validate_json(line) for line in reader.frames()] == graph.frames
    tail = reader.tail()
    assert tail.model_dump().items() <= graph.model_dump().items()
    assert (tail.relations, tail.kept_frames) == (graph.relations, graph.kept_frames)
    assert GraphReader([content]).tail() == tail


def test_a_foreign_or_truncated_document_is_refused() -> None:
    out = io.BytesIO()
    graph = written(map(frame, range(3)), out)
    for content in (b"", graph.model_dump_json().encode()):
        with pytest.raises(ValueError, match="does not have its frames on lines of their own"):
            GraphReader([content])
    begun = GraphReader([out.getvalue()[: out.getvalue().index(b'\n],"relations')]])
    with pytest.raises(ValueError, match="cut short"):
        list(begun.frames())


class _Counter(io.RawIOBase):
    """A file that keeps nothing."""

    size = 0

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def test_frames_are_not_kept_once_they_are_written() -> None:
    out = _Counter()

    def frames(count: int) -> int:
        tracemalloc.start()
        written_frames = map(frame, range(count))
        write_graph(
            out,  # type: ignore[arg-type]
            id="a",
            video=VIDEO,
            model=MODEL,
            options=OPTIONS,
            vocabulary=ACTION_GENOME,
            frames=written_frames,
            relations=[],
            prompt=lambda: "",
            timings=dict,
            warnings=[],
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    frames(1)
    assert frames(3000) < frames(30) + 20_000
    assert out.size > 300_000

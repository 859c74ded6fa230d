"""Scene graphs made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from models.graph.scene_graph import (
    Box,
    Frame,
    ModelReference,
    Options,
    Relation,
    SceneGraph,
    SceneObject,
    Triplet,
    Video,
)
from models.graph.vocabulary import ACTION_GENOME, Vocabulary

Thing = tuple[int, str, Box]
"""Id, label, box."""
Held = tuple[int, str, int]
"""Subject, predicate, object."""


def frame(
    index: int,
    timestamp: float,
    things: Sequence[Thing],
    held: Sequence[Held] = (),
    vocabulary: Vocabulary = ACTION_GENOME,
) -> Frame:
    """A sampled frame. The first triplet has the best score."""
    return Frame(
        index=index,
        timestamp=timestamp,
        objects=[SceneObject(id=id, label=label, score=0.9, box=box) for id, label, box in things],
        triplets=[
            Triplet(
                subject=subject,
                predicate=predicate,
                object=thing,
                group=vocabulary.group_of(predicate).name,
                predicate_score=0.9,
                relation_score=None,
                score=round(0.8 - 0.01 * rank, 2),
            )
            for rank, (subject, predicate, thing) in enumerate(held)
        ],
    )


def scene_graph(
    frames: Sequence[Frame],
    *,
    size: tuple[int, int],
    relations: Sequence[Relation] = (),
    duration: float | None = 2.0,
    fps: float = 1.0,
    vocabulary: Vocabulary = ACTION_GENOME,
) -> SceneGraph:
    """The graph of a video of this width and height in pixels, sampled at `fps` frames a second."""
    return SceneGraph(
        id="0123456789abcdef",
        video=Video(sha256="0" * 64, width=size[0], height=size[1], duration=duration, frame_rate=None, codec="h264"),
        model=ModelReference(name="tiny", version="1", engine="onnxruntime-cpu", precision="fp32"),
        options=Options(fps=fps, start=0.0, end=None, max_frames=100, min_score=0.0, top_k=20, constraint="with"),
        vocabulary=vocabulary,
        frames=list(frames),
        relations=list(relations),
        prompt="",
        timings={},
        warnings=[],
    )

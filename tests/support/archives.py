"""Archives made by hand."""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import BytesIO

from models.graph.scene_graph import Relation, SceneGraph
from service.archive.folder import ArchiveFolder
from service.archive.tables import Rows, Source, graph_rows, problem_rows, video_key
from service.archive.writing import append
from service.graph import GraphReader, write_graph
from tests.support.graphs import frame, scene_graph

PERSON = (1, "person", (10.0, 20.0, 60.5, 110.0))
CUP = (2, "cup/glass/bottle", (40.0, 50.0, 55.0, 70.0))
CHAIR = (7, "chair", (0.0, 0.0, 5.0, 5.0))
GRAPH = scene_graph(
    [
        frame(0, 0.0, [PERSON, CUP], [(1, "holding", 2), (2, "in_front_of", 1)]),
        frame(1, 0.5, []),
        frame(2, 1.0, [CUP]),
        frame(3, 1.5, [PERSON, CHAIR], [(1, "sitting_on", 7)]),
    ],
    size=(160, 128),
    relations=[
        Relation(subject=1, predicate="holding", object=2, start=0.0, end=0.5, score=0.8, relation_score=None),
        Relation(subject=2, predicate="in_front_of", object=1, start=0.0, end=0.5, score=0.7, relation_score=0.9),
        Relation(subject=1, predicate="sitting_on", object=7, start=1.5, end=1.75, score=0.6, relation_score=None),
    ],
    duration=1.75,
    fps=2.0,
)


def stored(graph: SceneGraph) -> GraphReader:
    """A graph as `write_graph` writes it."""
    out = BytesIO()
    write_graph(
        out,
        id=graph.id,
        video=graph.video,
        model=graph.model,
        options=graph.options,
        vocabulary=graph.vocabulary,
        frames=graph.frames,
        relations=graph.relations,
        prompt=lambda: graph.prompt,
        timings=lambda: graph.timings,
        warnings=graph.warnings,
    )
    return GraphReader([out.getvalue()])


def source(name: str, owner: str = "") -> Source:
    """The source of a video of this name."""
    return Source(video_key(name), owner=owner, path=f"/videos/{name}.mp4", etag="1", model_sha256="ab")


def rows_of(name: str, owner: str = "", *, with_frames: bool = True) -> Rows:
    """The rows of `GRAPH`, as those of a video of this name."""
    return graph_rows(stored(GRAPH), source(name, owner), with_frames=with_frames)


def problem_of(name: str) -> Rows:
    """The row of a video that cannot be read."""
    return problem_rows(source(name), model="tiny", options="{}", problem="video_unreadable", detail="no frame")


def make_archive(url: str | os.PathLike[str], names: Iterable[str], *, with_frames: bool = True) -> ArchiveFolder:
    """An archive of videos with these names, each in files of its own."""
    folder = ArchiveFolder(url)
    folder.make()
    for name in names:
        append(folder, rows_of(name, with_frames=with_frames))
    return folder

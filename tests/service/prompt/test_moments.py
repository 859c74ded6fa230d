from __future__ import annotations

from models.graph.scene_graph import ModelReference, Options, Relation, SceneGraph, Video
from service.prompt import key_moments
from tests.support.relations import frame, holds


def graph(*relations: Relation) -> SceneGraph:
    """Ten seconds, two frames a second, in which a person and four things are always seen."""
    return SceneGraph(
        id="0",
        video=Video(sha256="0", width=9, height=9, duration=10.0, frame_rate=None, codec="h264"),
        model=ModelReference(name="m", version="1", engine="e", precision="fp32"),
        options=Options(fps=2.0, start=0.0, end=None, max_frames=100, min_score=0.0, top_k=20, constraint="with"),
        frames=[frame("person", "cup/glass/bottle", "chair", "bed", "door", index=index) for index in range(20)],
        relations=list(relations),
        prompt="",
        timings={},
        warnings=[],
    )


def test_moments_show_the_most_telling_events_and_nothing_twice() -> None:
    shown = graph(
        holds("sitting_on", 3, 0.0, 10.0, score=0.9),
        holds("holding", 2, 1.0, 3.0),
        holds("behind", 5, 4.0, 5.0, score=0.5),
        holds("lying_on", 4, 8.0, 9.5),
    )
    assert key_moments(shown, 0) == []
    assert key_moments(shown, 1) == [2.0]
    assert key_moments(shown, 2) == [2.0, 8.5]
    assert key_moments(shown, 9) == [2.0, 4.5, 8.5]


def test_a_relation_score_moves_the_moment() -> None:
    def first(cup: float, bed: float) -> list[float]:
        relations = [holds("holding", 2, 1.0, 3.0, relevance=cup), holds("lying_on", 4, 8.0, 10.0, relevance=bed)]
        return key_moments(graph(*relations), 1)

    assert first(cup=0.9, bed=0.1) == [2.0]
    assert first(cup=0.1, bed=0.9) == [9.0]


def test_a_graph_without_relations_has_no_telling_moment() -> None:
    assert key_moments(graph(), 4) == []

"""A scene graph as GraphML: a temporal multigraph of objects and the relations between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from models.graph.scene_graph import Frame, GraphHead, Relation, SceneObject
from models.graph.vocabulary import Vocabulary
from service.graph import GraphReader


@dataclass
class _Node:
    label: str
    first_seen: float
    last_seen: float
    frames: int = 0
    score_sum: float = 0.0


def graphml_document(graph: GraphReader) -> Iterator[bytes]:
    """The graph in GraphML, in one block: objects and relations with their times in seconds, but no frames.

    Node ids are object ids. Values that are null in the graph are left out, since GraphML has no null.
    """
    # Imported when it is needed: it takes longer than the rest of a command, and most never write this.
    import networkx as nx

    nodes: dict[int, _Node] = {}
    for line in graph.frames():
        frame = Frame.model_validate_json(line)
        for thing in frame.objects:
            _note(nodes, thing, frame.timestamp)
    document = nx.MultiDiGraph(**_stated(_about(graph.head)))
    for identity, node in nodes.items():
        document.add_node(
            identity,
            label=node.label,
            first_seen=node.first_seen,
            last_seen=node.last_seen,
            frames=node.frames,
            score=round(node.score_sum / node.frames, 4),
        )
    for number, relation in enumerate(graph.tail().relations, 1):
        # Readers want every edge of the document to have an id of its own.
        document.add_edge(
            relation.subject,
            relation.object,
            key=f"relation{number}",
            **_stated(_edge(relation, graph.head.vocabulary)),
        )
    out = BytesIO()
    nx.write_graphml_xml(document, out)
    yield out.getvalue() + b"\n"


def _note(nodes: dict[int, _Node], thing: SceneObject, time: float) -> None:
    node = nodes.setdefault(thing.id, _Node(thing.label, first_seen=time, last_seen=time))
    node.last_seen = time
    node.frames += 1
    node.score_sum += thing.score


def _about(head: GraphHead) -> dict[str, Any]:
    return {
        "id": head.id,
        "sha256": head.video.sha256,
        "width": head.video.width,
        "height": head.video.height,
        "duration": head.video.duration,
        "frame_rate": head.video.frame_rate,
        "model": head.model.name,
        "model_version": head.model.version,
        "fps": head.options.fps,
    }


def _edge(relation: Relation, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "predicate": relation.predicate,
        "group": vocabulary.group_of(relation.predicate).name,
        "start": relation.start,
        "end": relation.end,
        "score": relation.score,
        "relation_score": relation.relation_score,
    }


def _stated(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}

"""Graphs in other formats, read by the tools that they are for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import networkx as nx
import pytest
from pycocotools.coco import COCO

from models.graph.scene_graph import Frame, Relation, SceneGraph
from models.graph.vocabulary import ACTION_GENOME
from service.errors import InvalidOption
from service.formats import Format, formatted, parse_format
from service.graph import write_graph
from tests.support.graphs import frame, scene_graph

PERSON = (1, "person", (10.0, 20.0, 60.5, 110.0))
CUP = (2, "cup/glass/bottle", (40.0, 50.0, 55.0, 70.0))
RELATIONS = [
    Relation(subject=1, predicate="holding", object=2, start=0.0, end=2.0, score=0.8, relation_score=None),
    Relation(subject=1, predicate="looking_at", object=2, start=0.0, end=1.0, score=0.7, relation_score=0.9),
    Relation(subject=2, predicate="in_front_of", object=1, start=1.0, end=2.0, score=0.6, relation_score=None),
]
GRAPH = scene_graph(
    [
        frame(0, 0.0, [PERSON, CUP], [(1, "holding", 2), (1, "looking_at", 2)]),
        frame(1, 0.5, []),
        frame(2, 1.0, [CUP]),
        frame(3, 1.5, [PERSON, (7, "chair", (0.0, 0.0, 5.0, 5.0))], [(1, "sitting_on", 7)]),
    ],
    size=(160, 128),
    relations=RELATIONS,
    duration=None,
)


def stored(graph: SceneGraph) -> Iterator[bytes]:
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
    content = out.getvalue()
    return (content[start : start + 100] for start in range(0, len(content), 100))


def written(graph: SceneGraph, form: Format) -> bytes:
    return b"".join(formatted(stored(graph), form))


def test_json_and_json_lines_are_the_graph_and_its_frames() -> None:
    assert SceneGraph.model_validate_json(written(GRAPH, "json")) == GRAPH
    lines = written(GRAPH, "jsonl").splitlines()
    assert [Frame.model_validate_json(line) for line in lines] == GRAPH.frames


def test_graphml_opens_in_networkx_with_all_attributes(tmp_path: Path) -> None:
    (tmp_path / "graph.graphml").write_bytes(written(GRAPH, "graphml"))
    graph = nx.read_graphml(tmp_path / "graph.graphml", node_type=int, force_multigraph=True)
    assert graph.is_directed()
    assert graph.graph["model"] == "tiny"
    assert "duration" not in graph.graph
    assert graph.nodes[2] == {
        "label": "cup/glass/bottle", "first_seen": 0.0, "last_seen": 1.0, "frames": 2, "score": 0.9,
    }  # fmt: skip
    assert set(graph) == {1, 2, 7}
    found = [(subject, thing, attributes) for subject, thing, attributes in graph.edges(data=True)]
    for relation in RELATIONS:
        attributes = relation.model_dump(exclude={"subject", "object"}, exclude_none=True)
        attributes["group"] = {"holding": "contacting", "looking_at": "attention"}.get(relation.predicate, "spatial")
        assert (relation.subject, relation.object, attributes) in found
    assert len(found) == 3


def test_coco_opens_in_pycocotools_with_boxes_tracks_and_relations(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_bytes(written(GRAPH, "coco"))
    coco = COCO(str(tmp_path / "coco.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(ACTION_GENOME.objects)
    assert [image["timestamp"] for image in coco.loadImgs(coco.getImgIds())] == [0.0, 0.5, 1.0, 1.5]
    people = coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds(["person"])))
    assert [(person["image_id"], person["track_id"], person["bbox"]) for person in people] == [
        (1, 1, [10.0, 20.0, 50.5, 90.0]),
        (4, 1, [10.0, 20.0, 50.5, 90.0]),
    ]
    assert people[0]["area"] == 50.5 * 90
    assert not coco.getAnnIds(imgIds=[2])
    assert len(coco.getAnnIds(areaRng=[200, 5000], iscrowd=False)) == 4

    tracks = {identity: annotation["track_id"] for identity, annotation in coco.anns.items()}
    said = [
        (
            relation["image_id"],
            tracks[relation["subject_id"]],
            ACTION_GENOME.predicates[relation["predicate_id"]],
            tracks[relation["object_id"]],
        )
        for relation in coco.dataset["relations"]
    ]
    assert said == [(1, 1, "holding", 2), (1, 1, "looking_at", 2), (4, 1, "sitting_on", 7)]
    assert [predicate["name"] for predicate in coco.dataset["predicates"]] == list(ACTION_GENOME.predicates)


@pytest.mark.parametrize("form", ["jsonl", "graphml", "coco"])
def test_a_graph_without_frames_can_be_written(form: Format) -> None:
    content = written(scene_graph([], size=(16, 16)), form)
    if form == "coco":
        assert json.loads(content)["annotations"] == json.loads(content)["images"] == []


def test_a_long_graph_comes_in_blocks_and_none_before_it_is_asked_for() -> None:
    long = GRAPH.model_copy(update={"frames": [frame(i, float(i), [PERSON, CUP]) for i in range(2000)]})
    blocks = list(formatted(stored(long), "coco"))
    assert len(blocks) > 5
    assert len(json.loads(b"".join(blocks))["annotations"]) == 4000

    def unread() -> Iterator[bytes]:
        raise AssertionError("read too early")
        yield b""

    formatted(unread(), "coco")


def test_an_unknown_format_is_refused_with_the_names_there_are() -> None:
    assert parse_format("graphml") == "graphml"
    with pytest.raises(InvalidOption, match="'csv', but must be one of json, jsonl, graphml, coco") as caught:
        parse_format("csv")
    assert caught.value.option == "format"

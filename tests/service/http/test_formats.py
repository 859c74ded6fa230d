"""Graphs in other formats, over HTTP."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import networkx as nx
import pytest
from pycocotools.coco import COCO

from service.formats import MEDIA_TYPES, Format
from service.http.request import accepted_format
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/html, application/xml;q=0.9", "json"),
        ("application/graphml+xml", "graphml"),
        ("text/html, Application/JSONL; charset=utf-8", "jsonl"),
        ("application/jsonl;q=0.5, application/vnd.coco+json;q=0.8, */*", "coco"),
        ("application/jsonl, application/json", "jsonl"),
        ("application/jsonl;q=0", "json"),
        ("application/jsonl;q=much", "json"),
    ],
)
def test_the_accept_header_chooses_the_format_with_the_highest_quality(header: str, form: str) -> None:
    assert accepted_format(header) == form


@pytest.mark.parametrize("form", ["json", "jsonl", "graphml", "coco"])
def test_a_format_is_asked_for_by_its_name_or_its_media_type(server: Server, clip: Path, form: Format) -> None:
    place = server.post(clip).headers["location"]
    named = server.client.get(place, params={"format": form})
    accepted = server.client.get(place, headers={"accept": MEDIA_TYPES[form]})
    assert named.status_code == 200
    assert named.headers["content-type"] == MEDIA_TYPES[form]
    assert (accepted.headers["content-type"], accepted.content) == (named.headers["content-type"], named.content)
    other = server.client.get(place, params={"format": form}, headers={"accept": "application/jsonl"})
    assert other.content == named.content


def test_graphml_and_coco_hold_what_the_graph_holds(server: Server, clip: Path, tmp_path: Path) -> None:
    graph = server.post(clip).json()
    place = f"/videos/{graph['id']}"
    network = nx.read_graphml(BytesIO(server.client.get(place, params={"format": "graphml"}).content), node_type=int)
    assert set(network) == {thing["id"] for frame in graph["frames"] for thing in frame["objects"]}
    assert network.number_of_edges() == len(graph["relations"])
    (tmp_path / "coco.json").write_bytes(server.client.get(place, params={"format": "coco"}).content)
    coco = COCO(str(tmp_path / "coco.json"))
    assert len(coco.imgs) == len(graph["frames"])
    assert len(coco.anns) == sum(len(frame["objects"]) for frame in graph["frames"])
    assert len(coco.dataset["relations"]) == sum(len(frame["triplets"]) for frame in graph["frames"])


def test_an_unknown_format_is_an_invalid_option(server: Server, clip: Path) -> None:
    place = server.post(clip).headers["location"]
    problem = problem_of(server.client.get(place, params={"format": "csv"}), 422, "invalid_option")
    assert problem["option"] == "format"


@pytest.mark.usefixtures("slow_engine")
def test_other_formats_are_not_ready_before_the_graph(server: Server, long_clip: Path) -> None:
    place = server.post(long_clip, data={"fps": "1"}, headers={"prefer": "respond-async"}).headers["location"]
    for form in ("jsonl", "graphml", "coco"):
        problem_of(server.client.get(place, params={"format": form}), 409, "not_ready")
    assert json.loads(server.client.get(place, params={"format": "json"}).content)["status"] in ("queued", "running")
    server.client.delete(place)

"""Every kind of network, exported and served: a video posted to it comes back as a valid scene graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.graph.bundle import MANIFEST_FILE, Thresholds
from models.graph.scene_graph import SceneGraph
from tests.conftest import serve
from tests.export.conftest import Exported
from tests.support.paths import ROOT

SAMPLE = ROOT / "docs" / "puppets.mp4"


def talkative(exported: Exported) -> Path:
    """The bundle with thresholds at 0: weights that were never trained are sure of nothing."""
    path = exported.bundle.folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    manifest["thresholds"] |= Thresholds(object_score=0, predicate_score=0, relation_score=0).model_dump()
    path.write_text(json.dumps(manifest))
    return exported.bundle.folder


def graph_of(bundles: list[Path], model: str, data: Path, **options: Any) -> dict[str, Any]:
    with serve(data, bundles=tuple(bundles)) as server:
        answer = server.post(SAMPLE, params={"model": model, "fps": "1", **options})
    assert answer.status_code == 200, answer.text
    graph: dict[str, Any] = answer.json()
    SceneGraph.model_validate(graph)
    assert graph["model"]["name"] == model
    assert len(graph["frames"]) == 10
    assert any(frame["triplets"] for frame in graph["frames"])
    return graph


@pytest.mark.parametrize("name", ["scored_arn", "scored_sttran"])
def test_a_scored_network_gives_relation_scores(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    exported: Exported = request.getfixturevalue(name)
    graph = graph_of([talkative(exported)], exported.bundle.manifest.name, tmp_path)
    for triplet in (triplet for frame in graph["frames"] for triplet in frame["triplets"]):
        assert 0 <= triplet["relation_score"] <= 1
    assert all(relation["relation_score"] is not None for relation in graph["relations"])


def test_every_relation_network_is_served_beside_another(
    other: Exported, scored_sttran: Exported, tmp_path: Path
) -> None:
    name = other.bundle.manifest.name
    graph = graph_of([talkative(scored_sttran), talkative(other)], name, tmp_path, uncertainty="true")
    triplets = [triplet for frame in graph["frames"] for triplet in frame["triplets"]]
    knows = name in ("fremure-bayesian", "fremure-gmm")
    assert all((triplet.get("uncertainty") is not None) == knows for triplet in triplets)
    assert ("no_uncertainty" in [warning["code"] for warning in graph["warnings"]]) != knows

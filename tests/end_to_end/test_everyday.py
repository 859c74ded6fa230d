"""The bundle `everyday`, the default model, from a video to a graph."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.graph.bundle import Bundle
from models.graph.scene_graph import SceneGraph
from service.loading import DEFAULT_MODEL, bundle_folders
from service.settings import load_settings
from tests.conftest import serve
from tests.support.paths import ROOT, SHARED
from tests.support.videos import make_video
from training.data.relations import Pair, Record, write_records
from training.relation_evaluation import evaluate_relations
from vsg import Client, open_model

BUNDLE = ROOT / "bundles" / "everyday"
BOTTLES = SHARED / "videos" / "people" / "intel_bottle_hand.mp4"


def alike(graph: SceneGraph) -> dict[str, object]:
    """What a graph says, but for its id and the time it took."""
    return graph.model_dump(exclude={"id", "timings", "status"})


def test_it_is_the_model_that_is_served_unless_another_is_named() -> None:
    assert bundle_folders(load_settings())[0].name == DEFAULT_MODEL == BUNDLE.name


def test_its_manifest_says_what_it_was_trained_on_and_where_weights_come_from() -> None:
    manifest = Bundle.load(BUNDLE).manifest
    assert "research use" in manifest.training.data
    assert "research data" in manifest.description
    assert {weights.licence.split(" ")[0] for weights in manifest.weights} == {"Apache-2.0"}
    assert manifest.relation_scoring


def test_a_video_with_nobody_gives_a_valid_graph_without_statements(tmp_path: Path) -> None:
    video = make_video(tmp_path / "grey.mp4", size=(320, 240), seconds=2)
    graph = open_model(BUNDLE)(video)
    assert len(graph.frames) == 4
    assert not any(frame.triplets for frame in graph.frames)


def test_it_needs_no_torch(tmp_path: Path) -> None:
    video = make_video(tmp_path / "grey.mp4", size=(160, 120), seconds=1)
    code = f"import sys, vsg; vsg.open_model({str(BUNDLE)!r})({str(video)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


def test_it_is_scored_on_relations_without_pixels(tmp_path: Path) -> None:
    boxes = ((10.0, 50.0, 90.0, 250.0), (40.0, 100.0, 60.0, 120.0))
    pair = Pair(subject=0, object=1, predicates=("holding",), asked=("holding", "touching"), related=True)
    records = [
        Record(source="mine", image=f"{number}.jpg", boxes=boxes, labels=("person", "cup/glass/bottle"), pairs=(pair,))
        for number in range(12)
    ]
    write_records(tmp_path / "mine.jsonl", records)
    found = evaluate_relations(tmp_path / "mine.jsonl", BUNDLE)
    assert found.left_out == 0
    assert found.figures["predicates"]["holding"]["asked"] == 12


def test_a_posted_video_gets_the_graph_that_it_gets_offline(tmp_path: Path) -> None:
    if not BOTTLES.is_file():
        pytest.skip(f"{BOTTLES} is not here")
    options = {"start": 10.0, "end": 14.0}
    offline = open_model(BUNDLE)(BOTTLES, **options)
    with serve(tmp_path / "data", bundles=(BUNDLE,)) as server, Client(server.url) as client:
        posted = client.graph(BOTTLES, **options)
    assert json.dumps(alike(posted), default=str) == json.dumps(alike(offline), default=str)
    labels = {thing.label for frame in posted.frames for thing in frame.objects}
    assert {"person", "cup/glass/bottle"} <= labels

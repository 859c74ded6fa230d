"""Two-stage networks as the service serves them: detector, relations and RS-Net in a chain of graphs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.bundle import write_bundle
from export.check import sample_frames
from models.graph.bundle import Thresholds
from models.graph.predictions import PairPredictions
from models.graph.scene_graph import SceneGraph
from service.loading import open_scheduler
from service.scheduling import VideoRun
from service.settings import load_settings
from service.video import FrameChunk
from tests.conftest import Server, serve
from tests.export.conftest import Exported, export_beside
from tests.support.networks import tiny_two_stage
from training.data.puppets.story import make_story
from training.data.puppets.video import write_video
from training.data.puppets.world import EASY
from training.prediction import network_predictor

EVERYTHING = Thresholds(object_score=0.0, predicate_score=0.0)
"""Networks with random weights are sure of nothing."""
NAMES = ("sttran-rs-net", "fremure-gmm")


@pytest.fixture(scope="module")
def sttran(scored_sttran: Exported, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """STTran with RS-Net; clips are shorter than the video."""
    folder = tmp_path_factory.mktemp("sttran") / "sttran-rs-net"
    shutil.copytree(scored_sttran.bundle.folder, folder)
    renamed = {"name": "sttran-rs-net", "thresholds": EVERYTHING}
    return replace(scored_sttran, bundle=write_bundle(folder, scored_sttran.bundle.manifest.model_copy(update=renamed)))


@pytest.fixture(scope="module")
def fremure(sttran: Exported, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """FReMuRe, which knows its uncertainty, without RS-Net."""
    config = tiny_two_stage("fremure-gmm", relation_specific=False, dual_branch=False)
    return export_beside(sttran, config, tmp_path_factory.mktemp("gmm"), "fremure-gmm", thresholds=EVERYTHING)


@pytest.fixture(scope="module")
def service(sttran: Exported, fremure: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundles = (sttran.bundle.folder, fremure.bundle.folder)
    with serve(tmp_path_factory.mktemp("data"), bundles=bundles) as running:
        yield running


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "puppet.mp4"
    write_video(path, make_story(replace(EASY, width=64, height=64), 9_000_003), 6.0)
    return path


def graph_of(service: Server, video: Path, name: str, **options: str) -> SceneGraph:
    answer = service.post(video, params={"model": name}, data={"fps": "8", **options})
    assert answer.status_code == 200, answer.text
    return SceneGraph.model_validate_json(answer.content)


@pytest.mark.parametrize("name", NAMES)
def test_a_posted_video_becomes_a_graph(service: Server, video: Path, name: str) -> None:
    graph = graph_of(service, video, name)
    assert (graph.model.name, graph.status) == (name, "succeeded")
    assert len(graph.frames) == 48, "more than one clip"
    assert (graph.video.width, graph.video.height) == (64, 64)
    pairs = [triplet for frame in graph.frames for triplet in frame.triplets]
    assert pairs
    for frame in graph.frames:
        labels = {thing.id: thing.label for thing in frame.objects}
        assert all("person" in (labels[each.subject], labels[each.object]) for each in frame.triplets)
        assert all(0 <= edge <= 64 for thing in frame.objects for edge in thing.box)
    scored = name == "sttran-rs-net"
    assert all((triplet.relation_score is not None) == scored for triplet in pairs)
    if scored:
        assert len({triplet.relation_score for triplet in pairs}) > 1
    assert "person" in graph.prompt


def test_uncertainty_is_given_where_asked_for_and_known(service: Server, video: Path) -> None:
    silent = graph_of(service, video, "fremure-gmm")
    assert all(triplet.uncertainty is None for frame in silent.frames for triplet in frame.triplets)
    told = graph_of(service, video, "fremure-gmm", uncertainty="true")
    known = [triplet.uncertainty for frame in told.frames for triplet in frame.triplets]
    assert known
    assert all(each is not None and each.aleatoric > 0 for each in known)
    unknown = graph_of(service, video, "sttran-rs-net", uncertainty="true")
    assert "no_uncertainty" in {warning.code for warning in unknown.warnings}


def test_relation_scores_and_uncertainty_depend_on_the_model(service: Server) -> None:
    models = {model["name"]: model for model in service.client.get("/models").json()["models"]}
    assert {name: models[name]["relation_scoring"] for name in NAMES} == {"sttran-rs-net": True, "fremure-gmm": False}
    assert all(models[name]["family"] == "two_stage" for name in NAMES)


@pytest.mark.parametrize("name", ["sttran", "fremure"])
def test_the_engine_gives_the_networks_outputs_for_clips_and_whole_videos(
    name: str, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(name)
    frames = sample_frames(np.random.default_rng(1), 1, 50, 64, 64)
    moments = np.arange(50, dtype=np.float32)[None] / 2
    with closing(open_scheduler(exported.bundle, load_settings())) as model, VideoRun(model, 50) as run:
        places = slice(0, 40), slice(40, 50)
        clips = [FrameChunk(moments[0, place].astype(np.float64), frames[0, place]) for place in places]
        parts = [outputs for _, outputs in run.finish(run.outputs(clips))]
    vocabulary = exported.bundle.manifest.vocabulary
    served = PairPredictions.concatenate([PairPredictions.from_tensors(part, vocabulary) for part in parts])
    wanted = network_predictor(exported.network)({"frames": frames[0], "timestamps": moments[0]})
    np.testing.assert_array_equal(served.pair_mask, wanted.pair_mask)
    mask = wanted.pair_mask
    assert mask.any()
    assert not mask.all()
    for field in ("subject_boxes", "object_scores", "predicate_scores", "relation_scores", "epistemic", "aleatoric"):
        ours, theirs = getattr(wanted, field), getattr(served, field)
        assert (ours is None) == (theirs is None), field
        if ours is not None:
            np.testing.assert_allclose(theirs[mask], ours[mask], atol=2e-4, rtol=1e-3, err_msg=field)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from models.errors import BundleError, EngineError
from models.graph.bundle import MANIFEST_FILE, Bundle, Manifest
from models.graph.predictions import PERSON_FIELDS, prediction_names
from models.graph.vocabulary import ACTION_GENOME
from service.errors import NoModels
from service.loading import open_pipeline, open_scheduler
from service.scheduling import Scheduler, VideoRun
from service.settings import load_settings
from service.video import FrameChunk
from tests.support.bundles import SIZE, make_tiny_bundle


class Load(Protocol):
    def __call__(self, *folders: Path, **settings: Any) -> Mapping[str, Scheduler]: ...


@pytest.fixture
def load() -> Iterator[Load]:
    with ExitStack() as stack:

        def load(*folders: Path, **settings: Any) -> Mapping[str, Scheduler]:
            pipeline = open_pipeline(load_settings(settings), bundles=folders)
            stack.callback(pipeline.close)
            return pipeline.models

        yield load


def clip(*brightness: int, first: float = 0.0) -> FrameChunk:
    frames = np.stack([np.full((SIZE, SIZE, 3), value, np.uint8) for value in brightness])
    return FrameChunk(first + np.arange(len(brightness), dtype=np.float64), frames)


@pytest.mark.parametrize("engine", ["onnxruntime-cpu", "openvino"])
@pytest.mark.parametrize("max_batch", [1, 3])
def test_a_video_goes_through_all_stages_of_a_real_bundle(
    load: Load, video_bundle: Path, engine: str, max_batch: int
) -> None:
    model = load(video_bundle, engine=engine, max_batch=max_batch, streams=2)["tiny-video"]
    names = prediction_names(ACTION_GENOME) - {"subject_classes", *PERSON_FIELDS}
    with VideoRun(model, 7) as run:
        clips = list(run.outputs([clip(10, 20, 30, 40), clip(50, 200), clip(100, first=8)]))
        assert clips[0][1].keys() == names - {"relation_scores"} | {"brightness", "timestamps"}
        [(times, whole)] = run.finish(clips)
    assert times.tolist() == [0, 1, 2, 3, 0, 1, 8]
    assert whole.keys() == names
    assert whole["relation_scores"][:, 0].tolist() == pytest.approx([n / 200 for n in (10, 20, 30, 40, 50, 200, 100)])
    assert whole["relation_scores"][-1, 1] == pytest.approx(1)
    assert model.engine == engine


def test_the_first_bundle_is_the_default(load: Load, tiny_bundle: Path, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other", name="other")
    assert list(load(other, tiny_bundle)) == ["other", "tiny"]


def test_two_models_of_one_name_are_refused(load: Load, tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match="second model named 'tiny'"):
        load(tiny_bundle, tiny_bundle)


def test_no_bundles_are_refused(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("service.loading.PACKAGED_FOLDER", tmp_path / "packaged")
    with pytest.raises(NoModels):
        load()


def test_a_folder_that_is_not_a_bundle_is_refused(load: Load, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        load(tmp_path)


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU here")
def test_an_engine_that_cannot_run_here_is_refused_with_the_reason(load: Load, tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match="no usable NVIDIA GPU here"):
        load(tiny_bundle, engine="onnxruntime-cuda")


def test_stages_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path / "bundle")
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_text())
    swapped = manifest.model_copy(update={"stages": manifest.stages[::-1]})
    with pytest.raises(EngineError, match="stage 'pairs' needs 'brightness'"):
        open_scheduler(Bundle(folder, swapped), load_settings())

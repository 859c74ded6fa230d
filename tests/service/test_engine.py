from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import MANIFEST_FILE, Bundle, Manifest
from models.errors import BundleError
from models.predictions import PairPredictions
from service.engine import Engine, load_engines
from service.errors import EngineError, NoModels
from tests.bundles import PAIRS, SIZE, make_tiny_bundle


def frames(*brightness: int, batch: int = 1) -> np.ndarray:
    clip = np.stack([np.full((SIZE, SIZE, 3), value, np.uint8) for value in brightness])
    return np.stack([clip] * batch)


def seconds(*timestamps: float, batch: int = 1) -> np.ndarray:
    return np.array([timestamps] * batch, np.float32)


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (2, 3), (5, 4)])
def test_stages_run_one_after_the_other_for_any_batch_and_length(tiny_bundle: Path, batch: int, time: int) -> None:
    engine = Engine(Bundle.load(tiny_bundle))
    outputs = engine.finish([engine.run(frames(*[200] * time, batch=batch), seconds(*range(time), batch=batch))])
    predictions = PairPredictions.from_outputs(outputs, batch - 1)
    assert predictions.pair_mask.shape == (time, PAIRS)
    assert predictions.pair_mask.all()


def test_outputs_react_to_the_frames(tiny_bundle: Path) -> None:
    outputs = Engine(Bundle.load(tiny_bundle)).run(frames(0, 128, 255), seconds(0, 1, 2))
    predictions = PairPredictions.from_outputs(outputs)
    assert predictions.pair_mask.any(axis=1).tolist() == [False, True, True]
    assert predictions.subject_boxes[:, 0, 2] == pytest.approx([0.2, 0.2 + 0.7 * 128 / 255, 0.9], abs=1e-5)


def test_clips_are_joined_along_time_in_order(tiny_bundle: Path) -> None:
    engine = Engine(Bundle.load(tiny_bundle))
    clips = [engine.run(frames(255, 51), seconds(0, 1)), engine.run(frames(0), seconds(2))]
    right_edges = engine.finish(clips)["subject_boxes"][0, :, 0, 2]
    assert right_edges.tolist() == pytest.approx([0.9, 0.34, 0.2])


def test_a_stage_that_must_see_the_whole_video_does(video_bundle: Path) -> None:
    engine = Engine(Bundle.load(video_bundle))
    brightness = [[10, 20, 30, 40], [50, 200, 60, 70], [100, 80]]
    times = [[1.0, 1.5, 2.0, 2.5], [3.0, 3.5, 4.0, 4.5], [5.0, 8.0]]
    clips = [engine.run(frames(*levels), seconds(*at)) for levels, at in zip(brightness, times, strict=True)]
    scores = engine.finish(clips)["relation_scores"][0]
    # Both shares are of the largest value of all clips, so even the first frame shows that all were seen at once.
    assert scores[:, 0].tolist() == pytest.approx([level / 200 for levels in brightness for level in levels])
    assert scores[:, 1].tolist() == pytest.approx([time / 8 for at in times for time in at])


def test_videos_of_a_batch_stay_apart(video_bundle: Path) -> None:
    engine = Engine(Bundle.load(video_bundle))
    two = np.concatenate([frames(100, 50), frames(100, 200)])
    clips = [engine.run(two, seconds(1, 2, batch=2)), engine.run(frames(25, batch=2), seconds(4, batch=2))]
    scores = engine.finish(clips)["relation_scores"]
    np.testing.assert_allclose(scores[..., 0], [[1, 0.5, 0.25], [0.5, 1, 0.125]], rtol=1e-5)
    np.testing.assert_allclose(scores[..., 1], [[0.25, 0.5, 1]] * 2)


def test_a_stage_of_a_clip_may_take_the_timestamps(video_bundle: Path) -> None:
    outputs = Engine(Bundle.load(video_bundle)).run(frames(255, 51), seconds(2, 3))
    np.testing.assert_allclose(outputs["aleatoric"][0, :, 0, 0], [0.02, 0.03])
    np.testing.assert_allclose(outputs["epistemic"][0, :, 1, 25], [0.1, 0.02])


def test_nothing_is_kept_that_nobody_needs(tiny_bundle: Path, video_bundle: Path) -> None:
    pairs = {
        "pair_mask", "subject_boxes", "subject_scores", "object_boxes", "object_scores",
        "attention", "spatial", "contacting",
    }  # fmt: skip
    plain, whole = (Engine(Bundle.load(folder)) for folder in (tiny_bundle, video_bundle))
    assert plain.run(frames(9), seconds(0)).keys() == pairs
    pairs |= {"epistemic", "aleatoric"}
    clip = whole.run(frames(9), seconds(0))
    assert clip.keys() == pairs | {"brightness", "timestamps"}
    assert whole.finish([clip]).keys() == pairs | {"relation_scores"}
    assert not clip, "what was joined would lie in memory twice"


def test_the_engine_is_named_after_what_runs(tiny_bundle: Path) -> None:
    assert Engine(Bundle.load(tiny_bundle)).name == "onnxruntime-cpu"


def test_the_first_bundle_is_the_default(tiny_bundle: Path, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other", name="other")
    assert list(load_engines([other, tiny_bundle])) == ["other", "tiny"]


def test_two_models_of_one_name_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match="second model named 'tiny'"):
        load_engines([tiny_bundle, tiny_bundle])


def test_no_bundles_are_refused() -> None:
    with pytest.raises(NoModels):
        load_engines([])


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        load_engines([tmp_path])


def test_a_stage_that_needs_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path / "bundle")
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_text())
    swapped = manifest.model_copy(update={"stages": manifest.stages[::-1]})
    with pytest.raises(EngineError, match="stage 'pairs' needs 'brightness'"):
        Engine(Bundle(folder, swapped))


def test_a_missing_runtime_is_said_with_the_pip_command(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_runtime(name: str, *rest: Any) -> Any:
        if name == "onnxruntime":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_runtime)
    with pytest.raises(EngineError, match=r"pip install 'video-scene-graph\[cpu\]'"):
        Engine(Bundle.load(tiny_bundle))

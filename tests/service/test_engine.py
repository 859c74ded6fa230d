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


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (2, 3), (5, 4)])
def test_stages_run_one_after_the_other_for_any_batch_and_length(tiny_bundle: Path, batch: int, time: int) -> None:
    outputs = Engine(Bundle.load(tiny_bundle)).run(frames(*[200] * time, batch=batch))
    predictions = PairPredictions.from_outputs(outputs, batch - 1)
    assert predictions.pair_mask.shape == (time, PAIRS)
    assert predictions.pair_mask.all()


def test_outputs_react_to_the_frames(tiny_bundle: Path) -> None:
    outputs = Engine(Bundle.load(tiny_bundle)).run(frames(0, 128, 255))
    predictions = PairPredictions.from_outputs(outputs)
    assert predictions.pair_mask.any(axis=1).tolist() == [False, True, True]
    assert predictions.subject_boxes[:, 0, 2] == pytest.approx([0.2, 0.2 + 0.7 * 128 / 255, 0.9], abs=1e-5)


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

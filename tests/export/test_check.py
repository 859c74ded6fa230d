"""The proof that a bundle gives what its checkpoint gives, and that it would notice if it did not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import numpy_helper

from export import check as check_module
from export.check import TOLERANCE, check_bundle, check_network, sample_frames
from export.commands import check
from export.errors import DisagreementError, ExportError
from models.arn import arn_r50
from models.bundle import MANIFEST_FILE, Bundle, sha256_of
from models.checkpoint import save_checkpoint
from tests.export.conftest import Exported, export
from tests.networks import tiny

OUTPUTS = {
    "pair_mask", "subject_boxes", "subject_scores", "object_boxes", "object_scores",
    "attention", "spatial", "contacting",
}  # fmt: skip


def spoil(exported: Exported, folder: Path, part: str) -> Path:
    """A copy whose weights of one part are 1 % larger, with a manifest that fits it."""
    copy = Path(shutil.copytree(exported.bundle.folder, folder))
    path = copy / "scene_graph.onnx"
    model = onnx.load(str(path))
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith(part))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(model, str(path))
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    manifest["sha256"]["scene_graph.onnx"] = sha256_of(path)
    (copy / MANIFEST_FILE).write_text(json.dumps(manifest))
    return copy


def test_arn_compact_agrees_for_all_batches_and_clip_lengths(compact: Exported) -> None:
    agreements = check_network(compact.bundle, compact.network, batches=(1, 2, 5), times=(1, 2, 3, 8))
    assert {each.output for each in agreements} == OUTPUTS
    assert max(each.difference for each in agreements) <= TOLERANCE


@pytest.mark.timeout(900)
def test_arn_r50_agrees_for_all_batches_and_clip_lengths(tmp_path: Path) -> None:
    exported = export(arn_r50(), tmp_path, "arn-r50")
    for batches, times in (((1, 2), (1, 2)), ((5,), (1,))):
        agreements = check_network(exported.bundle, exported.network, batches=batches, times=times)
        assert {each.output for each in agreements} == OUTPUTS
        assert max(each.difference for each in agreements) <= TOLERANCE


def test_a_bundle_is_checked_against_the_checkpoint_on_disk(small: Exported) -> None:
    agreements = check_bundle(small.bundle.folder, small.checkpoint)
    assert all(each.time <= 3 for each in agreements), "no longer clips than the bundle takes"


def test_weights_that_differ_by_one_per_cent_are_noticed_in_the_outputs_they_make(
    small: Exported, tmp_path: Path
) -> None:
    folder = spoil(small, tmp_path / "spoiled", "predicate_classifiers.spatial.head.bias")
    with pytest.raises(DisagreementError, match=r"^spatial differs by \S+ of its range at batch \d, \d frames"):
        check_bundle(folder, small.checkpoint)


def test_weights_that_do_not_react_prove_nothing(small: Exported, tmp_path: Path) -> None:
    network = small.network
    dull = {name: torch.zeros_like(value) if "_box." in name else value for name, value in network.state_dict().items()}
    sleepy = type(network)(network.config)
    sleepy.load_state_dict(dull)
    exported = _export_network(sleepy, tmp_path)
    with pytest.raises(ExportError, match=r"subject_boxes hardly changes from frame to frame \(0\.0e\+00\)"):
        check_network(exported, sleepy.eval(), batches=(1, 2), times=(1, 2))


def _export_network(network: Any, folder: Path) -> Bundle:
    from export.bundle import export_bundle

    save_checkpoint(folder / "checkpoint.pt", network, {})
    return export_bundle(folder / "checkpoint.pt", folder / "x", name="x", version="1", description="")


def test_a_checkpoint_of_another_shape_is_noticed(small: Exported) -> None:
    other = type(small.network)(tiny(queries=6)).eval()
    with pytest.raises(DisagreementError, match=r"the bundle gives shape \(1, 1, 5\), the checkpoint \(1, 1, 6\)"):
        check_network(small.bundle, other, batches=(1,), times=(1,))


def test_slots_of_a_dense_head_may_come_in_another_order_but_stay_together() -> None:
    random = np.random.default_rng(0)
    expected: dict[str, NDArray[np.generic]] = {
        "object_boxes": random.random((2, 3, 6, 4)), "object_scores": random.random((2, 3, 6, 36)),
        "subject_scores": random.random((2, 3, 6)), "contacting": random.random((2, 3, 6, 17)),
    }  # fmt: skip
    order = np.stack([random.permutation(6) for _ in range(6)]).reshape(2, 3, 6)
    shuffled = {
        name: np.take_along_axis(values, order.reshape(2, 3, 6, *[1] * (values.ndim - 3)), axis=2)
        for name, values in expected.items()
    }
    assert not np.array_equal(shuffled["contacting"], expected["contacting"])
    restored = check_module._in_order_of(expected, shuffled)
    for name, values in expected.items():
        np.testing.assert_array_equal(restored[name], values)


def test_learned_slots_may_not_change_places(small: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = small.network.predict

    def turned(frames: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: tensor.flip(2) for name, tensor in predict(frames).items()}

    monkeypatch.setattr(small.network, "predict", turned)
    with pytest.raises(DisagreementError, match="subject_boxes differs"):
        check_network(small.bundle, small.network, batches=(1, 2), times=(1, 2))


def test_a_bundle_that_gives_no_numbers_does_not_agree(small: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = small.network.predict

    def spoilt(frames: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = predict(frames)
        return outputs | {"attention": outputs["attention"] * (torch.nan if len(frames) == 1 else 1)}

    monkeypatch.setattr(small.network, "predict", spoilt)
    with pytest.raises(DisagreementError, match="attention differs"):
        check_network(small.bundle, small.network, batches=(1, 2), times=(1, 2))


def test_sample_frames_differ_from_each_other() -> None:
    frames = sample_frames(np.random.default_rng(0), 2, 3, 32, 48)
    assert (frames.shape, frames.dtype) == ((2, 3, 32, 48, 3), np.uint8)
    flat = frames.reshape(6, -1).astype(float)
    assert np.abs(flat[:, None] - flat[None]).mean(-1)[~np.eye(6, dtype=bool)].min() > 5


def test_vsg_check_prints_every_output(small: Exported) -> None:
    arguments = [str(small.bundle.folder), "--checkpoint", str(small.checkpoint)]
    result = CliRunner().invoke(check, arguments)
    assert result.exit_code == 0, result.output
    assert "small 2: manifest and files are whole" in result.output
    assert all(f"  {name} " in result.output for name in OUTPUTS)


def test_vsg_check_says_in_one_line_what_does_not_agree(small: Exported, tmp_path: Path) -> None:
    folder = spoil(small, tmp_path / "spoiled", "predicate_classifiers.spatial.head.bias")
    assert CliRunner().invoke(check, [str(folder)]).exit_code == 0, "the files alone are whole"
    result = CliRunner().invoke(check, [str(folder), "--checkpoint", str(small.checkpoint)])
    assert result.exit_code == 1
    assert "Error: spatial differs by" in result.output


def test_vsg_check_refuses_an_altered_file(small: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small.bundle.folder, tmp_path / "copy"))
    with (copy / "scene_graph.onnx").open("ab") as file:
        file.write(b"x")
    result = CliRunner().invoke(check, [str(copy)])
    assert result.exit_code == 1
    assert "has been altered" in result.output

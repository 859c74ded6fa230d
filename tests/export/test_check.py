"""The proof that a bundle gives what its checkpoint gives, and that it would notice if it did not."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import numpy_helper

from export import check as check_module
from export.check import check_bundle, check_network, sample_frames
from export.commands import check
from export.commands import export as export_command
from export.comparing import TOLERANCE, in_order_of
from export.errors import DisagreementError, ExportError
from models.graph.bundle import MANIFEST_FILE, Bundle, sha256_of
from models.networks.arn import Arn, arn_r50
from models.networks.checkpoint import save_checkpoint
from tests.export.conftest import Exported, export
from tests.support.networks import make_lively, tiny, tiny_detector

OUTPUTS = {
    "pair_mask", "subject_boxes", "subject_scores", "object_boxes", "object_scores",
    "attention", "spatial", "contacting",
}  # fmt: skip


Weights = NDArray[np.float32]


def one_per_cent_more(weights: Weights) -> Weights:
    return weights * np.float32(1.01)


def spoil(
    exported: Exported, folder: Path, file: str, part: str, change: Callable[[Weights], Weights] = one_per_cent_more
) -> Path:
    """A copy whose weights of one part are 1 % larger, or changed otherwise, with a manifest that fits it."""
    copied = Path(shutil.copytree(exported.bundle.folder, folder))
    path = copied / file
    model = onnx.load(str(path))
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith(part))
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight)).astype(np.float32), weight.name))
    onnx.save(model, str(path))
    manifest = json.loads((copied / MANIFEST_FILE).read_text())
    manifest["sha256"][file] = sha256_of(path)
    (copied / MANIFEST_FILE).write_text(json.dumps(manifest))
    return copied


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_arn_r50_agrees_for_all_batches_and_clip_lengths(tmp_path: Path) -> None:
    exported = export(arn_r50(), tmp_path, "arn-r50")
    for batches, times in (((1, 2), (1, 2)), ((5,), (1,))):
        agreements = check_network(exported.bundle, exported.network, batches=batches, times=times)
        assert {each.output for each in agreements} == OUTPUTS
        assert max(each.difference for each in agreements) <= TOLERANCE


@pytest.mark.parametrize("name", ["scored_arn", "scored_sttran"])
def test_a_network_with_a_scorer_agrees_for_all_batches_and_lengths(name: str, request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(name)
    agreements = check_network(exported.bundle, exported.network, batches=(1, 3), times=(1, 2, 7, 40))
    assert {each.output for each in agreements} == OUTPUTS | {"relation_scores"}
    assert max(each.difference for each in agreements) <= TOLERANCE


def test_every_relation_network_agrees_for_all_batches_and_lengths(other: Exported) -> None:
    agreements = check_network(other.bundle, other.network, batches=(1, 3), times=(1, 2, 7, 40))
    uncertain = other.bundle.manifest.name in ("fremure-bayesian", "fremure-gmm")
    assert {each.output for each in agreements} == OUTPUTS | ({"epistemic", "aleatoric"} if uncertain else set())
    assert max(each.difference for each in agreements) <= TOLERANCE


def test_a_bundle_is_checked_against_the_checkpoint_on_disk(small: Exported) -> None:
    agreements = check_bundle(small.bundle.folder, small.checkpoint)
    assert all(each.time <= 3 for each in agreements), "no longer clips than the bundle takes"


def test_checking_a_detector_alone_is_refused(small: Exported, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "detector.pt", make_lively(tiny_detector()), {})
    with pytest.raises(ExportError, match=r"detector\.pt holds a detector alone; check a network built on it"):
        check_bundle(small.bundle.folder, tmp_path / "detector.pt")


@pytest.mark.parametrize(
    ("name", "file", "part", "output"),
    [
        ("small", "scene_graph.onnx", "predicate_classifiers.spatial.head.bias", "spatial"),
        ("scored_sttran", "detector.onnx", "box_predictor.bbox_pred.bias", r"\w+"),
        ("scored_sttran", "relations.onnx", "s_rel_compress.bias", "spatial"),
        ("scored_sttran", "spatial_context.onnx", "spatial_token", "relation_scores"),
        ("scored_sttran", "relation_scores.onnx", "classifier.bias", "relation_scores"),
        ("scored_arn", "scene_graph.onnx", "dense_head.classes.bias", r"\w+"),
    ],
)
def test_weights_that_differ_by_one_per_cent_are_noticed_in_the_outputs_they_make(
    tmp_path: Path, request: pytest.FixtureRequest, name: str, file: str, part: str, output: str
) -> None:
    exported: Exported = request.getfixturevalue(name)
    folder = spoil(exported, tmp_path / "spoiled", file, part)
    with pytest.raises(DisagreementError, match=rf"^{output} differs by \S+ of its range at batch \d, \d+ frames"):
        check_network(Bundle.load(folder), exported.network, batches=(1, 2), times=(1, 3))


def test_a_changed_head_is_noticed_in_its_own_output(other: Exported, tmp_path: Path) -> None:
    changed = copy.deepcopy(other.network)
    relations = changed.relations
    head = relations.heads["spatial"]
    for parameter in head.parameters():
        parameter.data *= 1.01
    with pytest.raises(DisagreementError, match=r"^spatial differs"):
        check_network(other.bundle, changed, batches=(1, 2), times=(1, 3))


def test_a_network_whose_outputs_are_constant_fails_the_check(small: Exported) -> None:
    sleepy = copy.deepcopy(small.network)
    for name, parameter in sleepy.named_parameters():
        parameter.data *= "_box." not in name
    with pytest.raises(ExportError, match=r"subject_boxes does not change from frame to frame \(0.* --no-check$"):
        check_network(small.bundle, sleepy, batches=(1, 2), times=(1, 2))


def test_a_good_network_whose_answers_hardly_vary_is_exported_with_a_warning(small: Exported, tmp_path: Path) -> None:
    # Its spatial answers are as they were, but 60,000 times closer to each other.
    sure = copy.deepcopy(small.network)
    head = sure.predicate_classifiers["spatial"].head
    head.log_scale.data -= 11
    save_checkpoint(tmp_path / "sure.pt", sure, {})
    result = CliRunner().invoke(export_command, [str(tmp_path / "sure.pt"), str(tmp_path / "sure")])
    assert result.exit_code == 0, result.output
    warned = [line for line in result.output.splitlines() if line.startswith("Warning:")]
    assert len(warned) == 1, result.output
    assert re.match(
        r"Warning: spatial hardly changes from frame to frame \(\S+e-0[567]\), so the check says", warned[0]
    )
    other = copy.deepcopy(sure)
    other.predicate_classifiers["spatial"].head.bias.data += 0.01
    with pytest.raises(DisagreementError, match="spatial differs"):
        check_network(Bundle.load(tmp_path / "sure"), other, batches=(1, 2), times=(1, 2))


def test_empty_frames_do_not_count_as_a_reaction_to_the_input(scored_sttran: Exported) -> None:
    sleepy = copy.deepcopy(scored_sttran.network)
    sleepy.host.relations.c_rel_compress.weight.data *= 0
    with pytest.raises(ExportError, match=r"contacting does not change from frame to frame"):
        check_network(scored_sttran.bundle, sleepy, batches=(1, 2), times=(1, 3))


def test_a_detector_that_finds_nobody_fails_the_check(scored_sttran: Exported, tmp_path: Path) -> None:
    person = np.arange(37) == 1

    def blinded(bias: Weights) -> Weights:
        return np.where(person, np.float32(-100), bias)

    blind = copy.deepcopy(scored_sttran.network)
    head = blind.host.detector.roi_heads.box_predictor.cls_score
    head.bias.data = torch.from_numpy(blinded(head.bias.detach().numpy()))
    folder = spoil(scored_sttran, tmp_path / "blind", "detector.onnx", "cls_score.bias", blinded)
    with pytest.raises(ExportError, match="subject_boxes does not change from frame to frame"):
        check_network(Bundle.load(folder), blind, batches=(1, 2), times=(1, 3))


def test_a_checkpoint_of_another_shape_is_noticed(small: Exported) -> None:
    config = small.network.config
    other = Arn(tiny(**{name: getattr(config, name) for name in vars(config) if name != "queries"}, queries=6)).eval()
    with pytest.raises(DisagreementError, match=r"the bundle gives shape \(1, 1, 5\), the checkpoint \(1, 1, 6\)"):
        check_network(small.bundle, other, batches=(1,), times=(1,))


def test_ranked_slots_may_be_reordered_only_as_whole_slots() -> None:
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
    restored, same = in_order_of(expected, shuffled)
    assert same.all()
    for name, values in expected.items():
        np.testing.assert_array_equal(restored[name], values)


def test_learned_slots_may_not_be_reordered(small: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = small.network.predict

    def turned(frames: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: tensor.flip(2) for name, tensor in predict(frames).items()}

    monkeypatch.setattr(small.network, "predict", turned)
    with pytest.raises(DisagreementError, match="subject_boxes differs"):
        check_network(small.bundle, small.network, batches=(1, 2), times=(1, 2))


def test_a_bundle_whose_outputs_are_nan_fails_the_check(small: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = small.network.predict

    def spoilt(frames: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = predict(frames)
        return outputs | {"attention": outputs["attention"] * (torch.nan if len(frames) == 1 else 1)}

    monkeypatch.setattr(small.network, "predict", spoilt)
    with pytest.raises(DisagreementError, match="attention differs"):
        check_network(small.bundle, small.network, batches=(1, 2), times=(1, 2))


def test_frames_are_thinned_to_none_one_and_all_of_their_pairs() -> None:
    tensors = {"pair_mask": np.zeros((2, 2, 3), np.bool_), "features": np.random.default_rng(0).random((2, 2, 3, 5)),
               "timestamps": np.zeros((2, 2), np.float32)}  # fmt: skip
    thinned = check_module._thinned(tensors, 2, 7)
    assert thinned["pair_mask"].sum(-1).tolist() == [[0, 1, 3, 0, 1, 3, 0]] * 2
    np.testing.assert_array_equal(thinned["features"], tensors["features"][:, [0, 1, 0, 1, 0, 1, 0]])
    assert thinned["timestamps"].tolist() == [[0, 0.5, 1, 1.5, 2, 2.5, 3]] * 2


def test_sample_frames_differ_from_each_other() -> None:
    frames = sample_frames(np.random.default_rng(0), 2, 3, 32, 48)
    assert frames.shape == (2, 3, 32, 48, 3)
    assert frames.dtype == np.uint8
    flat = frames.reshape(6, -1).astype(float)
    assert np.abs(flat[:, None] - flat[None]).mean(-1)[~np.eye(6, dtype=bool)].min() > 5


def test_vsg_check_prints_every_output(small: Exported) -> None:
    arguments = [str(small.bundle.folder), "--checkpoint", str(small.checkpoint)]
    result = CliRunner().invoke(check, arguments)
    assert result.exit_code == 0, result.output
    assert "small 2: manifest and files are whole" in result.output
    assert all(f"  {name} " in result.output for name in OUTPUTS)


def test_vsg_check_says_in_one_line_what_does_not_agree(small: Exported, tmp_path: Path) -> None:
    folder = spoil(small, tmp_path / "spoiled", "scene_graph.onnx", "predicate_classifiers.spatial.head.bias")
    assert CliRunner().invoke(check, [str(folder)]).exit_code == 0, "the files alone are whole"
    result = CliRunner().invoke(check, [str(folder), "--checkpoint", str(small.checkpoint)])
    assert result.exit_code == 1
    assert "Error: spatial differs by" in result.output


def test_vsg_check_refuses_an_altered_file(small: Exported, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(small.bundle.folder, tmp_path / "copy"))
    with (copied / "scene_graph.onnx").open("ab") as file:
        file.write(b"x")
    result = CliRunner().invoke(check, [str(copied)])
    assert result.exit_code == 1
    assert "has been altered" in result.output

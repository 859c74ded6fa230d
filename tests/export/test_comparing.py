"""What is rounding and what is a difference, where a bundle and its network do not agree."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.check import check_network
from export.comparing import TOLERANCE, Pair, Rounding, counted, in_order_of
from export.errors import DisagreementError
from models.engines import Tensors
from models.graph.bundle import Bundle
from models.networks.arn import Arn
from models.networks.stages import SceneGraphNetwork
from tests.export.conftest import Exported
from tests.export.test_check import spoil


class Coarse(Arn):
    """Its scores of attention have fewer digits in float32 than they have in float64."""

    def predict(self, frames: Tensor) -> dict[str, Tensor]:
        outputs = super().predict(frames)
        if (attention := outputs["attention"]).dtype == torch.float32:
            outputs["attention"] = (attention * 4000).round() / 4000
        return outputs


@pytest.fixture
def coarse(small: Exported) -> SceneGraphNetwork:
    network = copy.deepcopy(small.network)
    network.__class__ = Coarse
    return network  # type: ignore[no-any-return]


def test_a_bundle_nearer_to_float64_than_its_network_agrees(small: Exported, coarse: SceneGraphNetwork) -> None:
    agreements = check_network(small.bundle, coarse, batches=(1, 2), times=(1, 3))
    said = {each.output: each for each in agreements}
    attention = said["attention"]
    assert attention.difference > TOLERANCE
    assert attention.rounding is not None
    assert attention.rounding.bundle < TOLERANCE < attention.rounding.network
    assert said["spatial"].rounding is None


def test_a_wrong_bundle_of_a_network_that_rounds_much_is_refused(
    small: Exported, coarse: SceneGraphNetwork, tmp_path: Path
) -> None:
    folder = spoil(small, tmp_path / "spoiled", "scene_graph.onnx", "predicate_classifiers.attention.head.bias")
    with pytest.raises(DisagreementError, match=r"^attention differs .* rounding of float32, but from float64 the bun"):
        check_network(Bundle.load(folder), coarse, batches=(1, 2), times=(1, 3))


@pytest.mark.parametrize(
    ("bundle", "network", "explains"),
    [(5e-5, 1e-6, True), (2e-4, 3e-4, True), (3e-4, 2e-4, False), (5e-3, 1e-2, False)],
    ids=["right where torch rounds", "as near as torch", "farther than torch", "more than rounding"],
)
def test_rounding_explains_what_is_as_near_to_float64(bundle: float, network: float, explains: bool) -> None:
    assert Rounding(bundle, network).explains == explains


def ranked(random: np.random.Generator) -> Tensors:
    return {
        "pair_mask": np.ones((1, 2, 50), np.bool_),
        "object_boxes": random.random((1, 2, 50, 4)),
        "object_scores": random.random((1, 2, 50, 36)),
        "contacting": random.random((1, 2, 50, 17)),
    }


def test_a_slot_with_another_pair_is_left_out_and_gets_the_networks_tensors() -> None:
    random = np.random.default_rng(0)
    expected = ranked(random)
    found = {name: values[:, :, ::-1].copy() for name, values in expected.items()}
    found["object_boxes"][0, 1, 7] = 1 - found["object_boxes"][0, 1, 7]  # slot 42 of the network
    found["contacting"][0, 1, 8] += 1e-3  # still the pair of slot 41
    aligned, same = in_order_of(expected, found)
    assert np.argwhere(~same).tolist() == [[0, 1, 42]]
    np.testing.assert_array_equal(aligned["object_boxes"], expected["object_boxes"])
    changed = np.argwhere(np.abs(aligned["contacting"] - expected["contacting"]).max(-1) > 0)
    assert changed.tolist() == [[0, 1, 41]], "it is compared"
    pair = Pair(expected, aligned, same)
    assert np.argwhere(~counted("contacting", pair)).tolist() == [[0, 1, 42]]


def test_a_bundle_that_finds_other_pairs_is_refused(scored_sttran: Exported, tmp_path: Path) -> None:
    folder = spoil(
        scored_sttran, tmp_path / "other", "detector.onnx", "box_predictor.bbox_pred.bias", lambda bias: bias + 2
    )
    with pytest.raises(DisagreementError, match=r"is of other pairs than the checkpoint's in .* of the cases; at most"):
        check_network(Bundle.load(folder), scored_sttran.network, batches=(1, 2), times=(1, 3))

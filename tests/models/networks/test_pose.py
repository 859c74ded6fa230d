"""Pose: crops are squares of the displayed picture, keypoints lie where they are in the frame, empty slots are 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.onnx import export_stages
from models.engines.onnxruntime import open_session
from models.networks.pose import KEYPOINTS, SIDE, PoseConfig, PoseNetwork, crop, crop_squares
from models.networks.stages import FRAMES, NetworkStage
from tests.support.published import enliven

PERSONS, PICTURE = "person_boxes", "picture_size"


def lively() -> PoseNetwork:
    network = PoseNetwork(PoseConfig()).eval()
    enliven(network)
    return network


def sample(batch: int = 1, time: int = 2) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(batch)
    frames = torch.randint(0, 256, (batch, time, 96, 128, 3), generator=random, dtype=torch.uint8)
    frames[:, :, :, 40:80] //= 4
    persons = torch.tensor([[0.1, 0.2, 0.4, 0.9], [0, 0, 0, 0], [0.5, 0.1, 0.9, 0.8]]).expand(batch, time, 3, 4)
    return {FRAMES: frames, PERSONS: persons.clone(), PICTURE: torch.tensor([640.0, 480.0]).expand(batch, time, 2)}


def test_a_crop_is_square_in_the_picture_and_as_long_as_the_box_with_its_margin() -> None:
    persons = torch.tensor([[[[0.4, 0.25, 0.6, 0.75]]]])
    square = crop_squares(persons, torch.tensor([[[1000.0, 500.0]]]), 1.2)[0, 0, 0]
    # The box is 200 x 250 pixels, the square 300: 0.3 of the width, 0.6 of the height, around the same centre.
    assert square.tolist() == pytest.approx([0.35, 0.2, 0.65, 0.8])


def test_a_crop_scales_its_part_of_the_image_and_is_black_outside() -> None:
    image = torch.ones(2, 3, 64, 64)
    image[1, :, :, 32:] = 0.5
    crops = crop(image, torch.tensor([[0.0, 0.0, 1.0, 1.0], [-0.5, 0.25, 0.5, 1.25]]), torch.tensor([1.0, 0.0]))
    assert crops.shape == (2, 3, SIDE, SIDE)
    assert crops[0, :, :, : SIDE // 2 - 4].eq(1).all()
    assert crops[0, :, :, SIDE // 2 + 4 :].eq(0.5).all()
    assert crops[1, :, :, : SIDE // 2 - 8].eq(0).all()
    assert crops[1, :, : SIDE // 2, SIDE // 2 + 8 :].eq(1).all()


def test_points_of_a_crop_become_fractions_of_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    network = lively()

    class Middle(nn.Module):
        """Puts all points at a quarter of the crop's width and three quarters of its height, half visible."""

        def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
            values = torch.tensor([SIDE / 4, SIDE * 3 / 4, 0.0, 0.0, 0.0])
            return values.expand(len(crops), len(KEYPOINTS), 5), torch.full((len(crops), 1), 0.8)

    monkeypatch.setattr(network, "landmarks", Middle())
    found = network(*sample().values())
    # The first person's box is 192 x 336 pixels, the square 420: 0.65625 of the width, 0.875 of the height.
    assert found.shape == (1, 2, 3, 33, 3)
    expected = [0.25 - 0.65625 / 4, 0.55 + 0.875 / 4, 0.4]
    assert found[0, 0, 0, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_slots_without_a_person_are_zero_and_change_nothing() -> None:
    network, inputs = lively(), sample()
    found = network(*inputs.values())
    assert found[:, :, 1].eq(0).all()
    assert found[:, :, [0, 2], :, :2].abs().min() > 0
    alone = {**inputs, PERSONS: inputs[PERSONS][:, :, 2:]}
    assert network(*alone.values())[:, :, 0].allclose(found[:, :, 2], atol=1e-4)


def test_frames_without_any_person_give_zeros() -> None:
    inputs = sample()
    assert lively()(*{**inputs, PERSONS: torch.zeros(1, 2, 3, 4)}.values()).eq(0).all()


def test_keypoints_react_to_the_frame() -> None:
    network, inputs = lively(), sample()
    other = {**inputs, FRAMES: 255 - inputs[FRAMES]}
    assert (network(*inputs.values()) - network(*other.values())).abs().max() > 1e-3


def test_there_are_33_points_with_different_names() -> None:
    assert len(set(KEYPOINTS)) == 33
    assert KEYPOINTS[0] == "nose"
    assert (KEYPOINTS[15], KEYPOINTS[16]) == ("left_wrist", "right_wrist")
    assert (KEYPOINTS[23], KEYPOINTS[24]) == ("left_hip", "right_hip")


class Named(nn.Module):
    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        return (self.network(*inputs),)


def test_onnx_gives_the_same_keypoints_for_any_number_of_persons(tmp_path: Path) -> None:
    stage = NetworkStage("pose", Named(lively()).eval(), (FRAMES, PERSONS, PICTURE), ("keypoints",), "frame")
    traced = {name: values.numpy() for name, values in sample(2, 3).items()}
    (written,) = export_stages([stage], traced, {"keypoints"}, 3, tmp_path)
    session = open_session(tmp_path / written.file, threads=1)
    for batch, time, persons in ((1, 1, 3), (2, 3, 3), (1, 2, 1), (1, 2, 0)):
        inputs = {name: values.numpy() for name, values in sample(batch, time).items()}
        inputs[PERSONS][:, :, persons:] = 0
        (found,) = session.run(["keypoints"], inputs)
        expected = stage.run(inputs)["keypoints"]
        assert found.shape == (batch, time, 3, 33, 3)
        assert np.ptp(expected) > 0.1 or not persons
        assert np.abs(found - expected).max() < 1e-3

"""CLIP's image tower on the regions of boxes, with random weights: the published ones take a download."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch
from torch import Tensor, nn

from models.networks.clip.crops import ClipCropEncoder
from tests.support.clip import tiny_clip


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> ClipCropEncoder:
    model = tiny_clip()
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: model)
    return ClipCropEncoder().eval()


class Keep(nn.Module):
    """Stands where the tower does and keeps the pictures that it is given."""

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        return images.mean((2, 3))


def boxes_in(*shape: int) -> Tensor:
    """Corner boxes inside the frame."""
    first, size = 0.5 * torch.rand(*shape, 2), 0.1 + 0.4 * torch.rand(*shape, 2)
    return torch.cat((first, first + size), -1)


def test_each_region_is_embedded_alone_in_its_frame(encoder: ClipCropEncoder) -> None:
    frames = torch.randint(256, (2, 2, 40, 60, 3), dtype=torch.uint8)
    boxes = boxes_in(2, 2, 3)
    features = encoder(frames, boxes, torch.ones(2, 2, 3, dtype=torch.bool))
    assert (features.shape, features.dtype) == ((2, 2, 3, 512), torch.float32)
    for clip, time, slot in np.ndindex(2, 2, 3):
        one = (frames[clip, time][None, None], boxes[clip, time, slot][None, None, None], torch.ones(1, 1, 1).bool())
        torch.testing.assert_close(features[clip, time, slot], encoder(*one)[0, 0, 0], atol=1e-5, rtol=1e-5)
    assert features.norm(dim=-1).std() > 0, "not of unit length"


def test_a_region_is_cut_out_and_stretched(encoder: ClipCropEncoder) -> None:
    encoder.tower = Keep()
    frames = torch.randint(256, (1, 2, 30, 50, 3), dtype=torch.uint8)
    boxes = boxes_in(1, 2, 2)
    encoder(frames, boxes, torch.ones(1, 2, 2, dtype=torch.bool))
    pictures = (encoder.tower.images * encoder.std + encoder.mean) * 255
    for index, (time, slot) in enumerate(np.ndindex(2, 2)):
        expected = sampled(frames[0, time].numpy(), boxes[0, time, slot].numpy())
        np.testing.assert_allclose(pictures[index].permute(1, 2, 0)[::37, ::37], expected, atol=0.05)


def sampled(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Every 37th pixel of the region, by hand: the mean of four bilinear samples."""
    height, width = frame.shape[:2]
    left, top, right, bottom = box * (width, height, width, height)
    picture = np.zeros((7, 7, 3))
    for row, column, down, across in np.ndindex(7, 7, 2, 2):
        y = top + (bottom - top) * (37 * row + (down + 0.5) / 2) / 224 - 0.5
        x = left + (right - left) * (37 * column + (across + 0.5) / 2) / 224 - 0.5
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        for near_y, near_x in ((int(y), int(x)), (int(y), int(x) + 1), (int(y) + 1, int(x)), (int(y) + 1, int(x) + 1)):
            weight = (1 - abs(y - near_y)) * (1 - abs(x - near_x))
            pixel = frame[min(near_y, height - 1), min(near_x, width - 1)]
            picture[row, column] += weight * pixel / 4
    return picture


def test_the_whole_frame_gives_what_open_clip_says_of_it(encoder: ClipCropEncoder) -> None:
    # Where nothing is enlarged, the four samples of a pixel average it with its neighbours: a smooth picture stays.
    slope = torch.linspace(0, 255, 224).round().to(torch.uint8)
    frame = torch.stack((slope[:, None].expand(224, 224), slope.expand(224, 224), slope.flip(0).expand(224, 224)), -1)
    features = encoder(frame[None, None], torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]]), torch.ones(1, 1, 1).bool())
    mean, std = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
    image = ((frame / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        torch.testing.assert_close(features[0, 0], encoder.tower(image), atol=0.01, rtol=0.01)


def test_slots_without_a_pair_are_zero_whatever_they_hold(encoder: ClipCropEncoder) -> None:
    frames = torch.randint(256, (1, 2, 20, 20, 3), dtype=torch.uint8)
    boxes = boxes_in(1, 2, 2)
    mask = torch.tensor([[[True, False], [False, False]]])
    expected = encoder(frames, boxes, mask)
    boxes[~mask] = float("nan")
    features = encoder(frames, boxes, mask)
    torch.testing.assert_close(features, expected, atol=0, rtol=0)
    assert features[mask].abs().sum() > 0
    assert not features[~mask].any()


@pytest.mark.parametrize(
    "box",
    [(0.5, 0.5, 0.5, 0.5), (0.2, 0.7, 0.9, 0.7), (1.0, 1.0, 1.0, 1.0), (0.9, 0.9, 0.1, 0.1), (-0.5, -2.0, 1.5, 3.0)],
)
def test_regions_outside_the_frame_or_without_area_give_finite_features(
    encoder: ClipCropEncoder, box: tuple[float, ...]
) -> None:
    frames = torch.randint(256, (1, 1, 20, 30, 3), dtype=torch.uint8)
    features = encoder(frames, torch.tensor(box).view(1, 1, 1, 4), torch.ones(1, 1, 1, dtype=torch.bool))
    assert features.isfinite().all()
    assert features.any()


def test_clip_weights_are_never_trained(encoder: ClipCropEncoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    frames = torch.zeros(1, 1, 20, 20, 3, dtype=torch.uint8)
    boxes = boxes_in(1, 1, 1).requires_grad_()
    assert not encoder(frames, boxes, torch.ones(1, 1, 1, dtype=torch.bool)).requires_grad


def test_an_exported_graph_gives_the_same_for_any_batch_and_time(encoder: ClipCropEncoder, tmp_path: Path) -> None:
    def example(batch: int, time: int) -> tuple[Tensor, Tensor, Tensor]:
        frames = torch.randint(256, (batch, time, 16, 24, 3), dtype=torch.uint8)
        return frames, boxes_in(batch, time, 2), torch.rand(batch, time, 2) < 0.5

    names = ["frames", "boxes", "mask"]
    axes = {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("time", min=1, max=64)}
    with warnings.catch_warnings():
        # The exporter warns of its own dependencies' deprecations.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            encoder,
            example(2, 3),
            dynamic_shapes=(axes, axes, axes),
            input_names=names,
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(tmp_path / "crops.onnx"), external_data=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "crops.onnx"), providers=["CPUExecutionProvider"])
    for shape in ((1, 1), (3, 2)):
        given = example(*shape)
        (features,) = session.run(None, {name: each.numpy() for name, each in zip(names, given, strict=True)})
        np.testing.assert_allclose(features, encoder(*given).numpy(), atol=1e-5)

"""EfficientDet: anchors and boxes worked out by hand, any frame size, and the same results from ONNX."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from export.onnx import export_stages, sample_inputs
from models.engines.onnxruntime import open_session
from models.networks.detectors.efficientdet import EfficientDet, EfficientDetConfig, decode_boxes, place_anchors
from models.networks.stages import FRAMES, NetworkStage
from tests.support.published import enliven


def lively(**config: int) -> EfficientDet:
    network = EfficientDet(EfficientDetConfig(**config)).eval()
    enliven(network)
    return network


def sample_frames(count: int, height: int, width: int) -> Tensor:
    """Frames that differ: rectangles of random colours on gradients."""
    random = np.random.default_rng(count)
    frames = np.zeros((count, height, width, 3), np.uint8)
    for frame in frames:
        frame[:] = np.linspace(0, random.integers(60, 255), width)[:, None].astype(np.uint8)
        for _ in range(4):
            top, left = random.integers(height - 20), random.integers(width - 20)
            frame[top : top + 20, left : left + 30] = random.integers(0, 256, 3)
    return torch.from_numpy(frames)


def test_the_published_size_has_the_published_number_of_anchors() -> None:
    assert place_anchors(EfficientDetConfig(frame_height=320, frame_width=320)).shape == (19206, 4)


def test_the_first_cell_has_anchors_of_three_octaves_and_ratios() -> None:
    anchors = place_anchors(EfficientDetConfig(frame_height=320, frame_width=320))[:9] * 320
    assert anchors[:, :2].allclose(torch.tensor(4.0))  # the middle of a cell of 8 pixels
    assert anchors[0, 2:].tolist() == pytest.approx([24, 24])
    assert anchors[1, 2:].tolist() == pytest.approx([24 * math.sqrt(2), 24 / math.sqrt(2)])  # wide
    assert anchors[2, 2:].tolist() == pytest.approx([24 / math.sqrt(2), 24 * math.sqrt(2)])  # high
    assert anchors[3, 2:].tolist() == pytest.approx([24 * 2 ** (1 / 3)] * 2)
    assert anchors[6, 2:].tolist() == pytest.approx([24 * 2 ** (2 / 3)] * 2, rel=1e-5)


def test_cells_of_the_last_level_divide_the_frame_evenly() -> None:
    last = place_anchors(EfficientDetConfig(frame_height=320, frame_width=320))[-81::9] * 320
    third = 320 / 3
    assert last[:3, 0].tolist() == pytest.approx([third / 2, 160, 320 - third / 2], rel=1e-5)
    assert last[0, 2:].tolist() == pytest.approx([320, 320])


def test_a_wide_frame_has_anchors_that_are_square_in_its_pixels() -> None:
    anchors = place_anchors(EfficientDetConfig(frame_height=128, frame_width=256))
    assert len(anchors) == 9 * (16 * 32 + 8 * 16 + 4 * 8 + 2 * 4 + 1 * 2)
    assert (anchors[0] * torch.tensor([256, 128, 256, 128])).tolist() == pytest.approx([4, 4, 24, 24])


def test_a_frame_that_is_padded_has_the_anchors_of_the_padded_one() -> None:
    padded = place_anchors(EfficientDetConfig(frame_height=128, frame_width=256))
    anchors = place_anchors(EfficientDetConfig(frame_height=100, frame_width=200))
    in_pixels = anchors * torch.tensor([200, 100, 200, 100])
    assert in_pixels.allclose(padded * torch.tensor([256, 128, 256, 128]), rtol=1e-4)


def test_deltas_move_and_grow_an_anchor() -> None:
    anchor = torch.tensor([0.5, 0.4, 0.2, 0.1])  # centre, width and height
    corners = decode_boxes(torch.tensor([1.0, -0.5, math.log(2), math.log(0.5)]), anchor)
    # ty = 1 moves down by the height 0.1, tx = -0.5 left by half the width 0.2; height doubles, width halves.
    assert corners.tolist() == pytest.approx([0.35, 0.4, 0.45, 0.6])


def test_boxes_end_at_the_frame() -> None:
    assert decode_boxes(torch.zeros(4), torch.tensor([0.1, 0.9, 0.6, 0.6])).tolist() == pytest.approx([0, 0.6, 0.4, 1])


def test_candidates_are_the_anchors_with_the_highest_score_of_any_class() -> None:
    detector = lively(frame_height=64, frame_width=128, candidates=7)
    frames = sample_frames(2, 64, 128)
    boxes, scores = detector(frames)
    assert boxes.shape == (2, 7, 4)
    assert scores.shape == (2, 7, 80)
    assert scores.min() >= 0
    assert scores.max() <= 1
    _, logits = detector.score_anchors((frames.permute(0, 3, 1, 2).float() - 127) / 128)
    assert scores.amax(-1).allclose(logits.sigmoid().amax(-1).topk(7).values, atol=1e-6)


def test_the_same_weights_take_frames_of_another_size() -> None:
    detector = lively(frame_height=64, frame_width=64)
    other = detector.with_frame_size(100, 192)
    assert other.frame_size == (100, 192)
    assert not other.training
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in detector.state_dict().items())
    boxes, _ = other(sample_frames(1, 100, 192))
    assert boxes.shape == (1, 300, 4)


def test_a_frame_gives_the_same_alone_and_among_others() -> None:
    detector = lively(frame_height=64, frame_width=64, candidates=20)
    frames = sample_frames(3, 64, 64)
    boxes, scores = detector(frames)
    alone_boxes, alone_scores = detector(frames[1:2])
    assert boxes[1].allclose(alone_boxes[0], atol=1e-5)
    assert scores[1].allclose(alone_scores[0], atol=1e-5)
    assert not scores[0].allclose(scores[1], atol=1e-3)


@pytest.mark.parametrize("change", [{"frame_height": 63}, {"frame_width": 5000}, {"candidates": 0}])
def test_a_size_out_of_range_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        EfficientDetConfig(**change)


class Clips(nn.Module):
    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.detector(frames.flatten(0, 1))
        return boxes.unflatten(0, frames.shape[:2]), scores.unflatten(0, frames.shape[:2])


def test_onnx_gives_the_same_boxes_and_scores_for_any_number_of_frames(tmp_path: Path) -> None:
    detector = lively(frame_height=64, frame_width=100, candidates=50)
    stage = NetworkStage("detector", Clips(detector).eval(), (FRAMES,), ("boxes", "scores"), "frame")
    (written,) = export_stages([stage], sample_inputs(detector.frame_size, 3), {"boxes", "scores"}, 3, tmp_path)
    assert [output.shape for output in written.outputs] == [("batch", "time", 50, 4), ("batch", "time", 50, 80)]
    session = open_session(tmp_path / written.file, threads=1)
    for batch, time in ((1, 1), (2, 3)):
        frames = sample_frames(batch * time, 64, 100).unflatten(0, (batch, time))
        expected = stage.run({FRAMES: frames.numpy()})
        boxes, scores = session.run(["boxes", "scores"], {FRAMES: frames.numpy()})
        assert np.ptp(scores) > 0.1
        assert np.abs(boxes - expected["boxes"]).max() < 1e-4
        assert np.abs(scores - expected["scores"]).max() < 1e-4

"""SSDLite: anchors and boxes worked out by hand, and frames of any size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from export.check import sample_frames
from models.networks.detectors.ssdlite import SsdLite, SsdLiteConfig, decode_boxes, place_anchors
from tests.support.published import enliven


def lively(**config: int) -> SsdLite:
    network = SsdLite(SsdLiteConfig(**config)).eval()
    enliven(network)
    return network


def test_there_are_as_many_anchors_as_are_published() -> None:
    assert place_anchors().shape == (1917, 4)


def test_the_first_level_has_three_anchors_a_cell_and_the_others_six() -> None:
    anchors = place_anchors()
    assert anchors[:3, :2].allclose(torch.tensor(0.5 / 19))
    assert anchors[0, 2:].tolist() == pytest.approx([0.1, 0.1])
    assert anchors[1, 2:].tolist() == pytest.approx([0.2 * math.sqrt(2), 0.2 / math.sqrt(2)])  # wide
    assert anchors[2, 2:].tolist() == pytest.approx([0.2 / math.sqrt(2), 0.2 * math.sqrt(2)])  # high
    second = anchors[3 * 19 * 19 :][:6]
    assert second[:, :2].allclose(torch.tensor(0.05))
    assert second[0, 2:].tolist() == pytest.approx([0.35, 0.35])
    assert second[3, 2:].tolist() == pytest.approx([0.35 * math.sqrt(3), 0.35 / math.sqrt(3)])
    assert second[5, 2:].tolist() == pytest.approx([math.sqrt(0.35 * 0.5)] * 2), "between its level's and the next"


def test_the_last_level_is_one_cell_of_the_whole_frame() -> None:
    last = place_anchors()[-6:]
    assert last[:, :2].allclose(torch.tensor(0.5))
    assert last[0, 2:].tolist() == pytest.approx([0.95, 0.95])
    assert last[5, 2:].tolist() == pytest.approx([math.sqrt(0.95)] * 2)


def test_deltas_move_and_grow_an_anchor() -> None:
    anchor = torch.tensor([0.5, 0.4, 0.2, 0.1])  # centre, width and height
    corners = decode_boxes(torch.tensor([10.0, -5.0, 5 * math.log(2), 5 * math.log(0.5)]), anchor)
    # ty = 10 moves down by the height 0.1, tx = -5 left by half the width 0.2; height doubles, width halves.
    assert corners.tolist() == pytest.approx([0.35, 0.4, 0.45, 0.6])


def test_boxes_end_at_the_frame() -> None:
    assert decode_boxes(torch.zeros(4), torch.tensor([0.1, 0.9, 0.6, 0.6])).tolist() == pytest.approx([0, 0.6, 0.4, 1])


@torch.inference_mode()
def test_frames_of_any_size_give_the_best_candidates_of_eighty_classes() -> None:
    square = lively(frame_height=64, frame_width=64, candidates=7)
    for height, width in ((64, 128), (448, 448)):
        detector = square.with_frame_size(height, width)
        assert detector.frame_size == (height, width)
        assert not detector.training
        frames = torch.from_numpy(sample_frames(np.random.default_rng(0), 1, 1, height, width)[0])
        boxes, scores = detector(frames)
        assert (boxes.shape, scores.shape) == ((1, 7, 4), (1, 7, 80))
        assert boxes.min() >= 0
        assert boxes.max() <= 1
        best = scores.amax(-1)[0]
        assert torch.equal(best, best.sort(descending=True).values)
        assert 0 < best[-1] <= best[0] < 1


@torch.inference_mode()
def test_the_background_is_no_class() -> None:
    detector = lively(frame_height=64, frame_width=64, candidates=1917)
    frames = torch.from_numpy(sample_frames(np.random.default_rng(1), 1, 1, 64, 64)[0])
    _, before = detector(frames)
    for head in detector.class_heads:
        head.predict.bias.data.view(-1, 81)[:, 0] += 100
    assert torch.equal(before, detector(frames)[1])


@torch.inference_mode()
def test_a_frame_gives_the_same_alone_and_among_others() -> None:
    detector = lively(frame_height=64, frame_width=64, candidates=20)
    frames = torch.from_numpy(sample_frames(np.random.default_rng(2), 1, 3, 64, 64)[0])
    boxes, scores = detector(frames)
    alone_boxes, alone_scores = detector(frames[1:2])
    assert boxes[1].allclose(alone_boxes[0], atol=1e-5)
    assert scores[1].allclose(alone_scores[0], atol=1e-5)
    assert not scores[0].allclose(scores[1], atol=1e-3)


@pytest.mark.parametrize("change", [{"frame_height": 63}, {"frame_width": 5000}, {"candidates": 0}])
def test_a_size_out_of_range_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        SsdLiteConfig(**change)

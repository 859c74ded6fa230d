"""Two detectors as one: what both find, what one finds, and the same results from ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from export.onnx import export_stages, sample_inputs
from models.engines.onnxruntime import open_session
from models.errors import ConfigurationError
from models.networks.detectors.fused import Fused, FusingConfig
from models.networks.stages import FRAMES, NetworkStage

NAMES = ("person", "cup", "dog")
FRAME = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
CONFIG = FusingConfig(weight=0.25)
Found = tuple[tuple[float, float, float, float], int, float]
"""A box, its class and its score."""


def near(box: tuple[float, float, float, float], kind: int, score: float) -> Any:
    """Equals what is found up to rounding."""
    return (pytest.approx(box), kind, pytest.approx(score))


class Fixed(nn.Module):
    """Finds the same in every frame. Brighter frames have higher scores."""

    def __init__(
        self, found: Sequence[Found], names: tuple[str, ...] = NAMES, size: tuple[int, int] = (64, 64)
    ) -> None:
        super().__init__()
        self.names = names
        self.frame_size = size
        self.boxes = torch.tensor([box for box, _, _ in found])
        self.scores = torch.zeros(len(found), len(names))
        for row, (_, kind, score) in enumerate(found):
            self.scores[row, kind] = score

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        light = 1 - frames.float().mean((1, 2, 3)) / 510
        return self.boxes.expand(len(frames), -1, -1), self.scores * light[:, None, None]


def fuse(first: Sequence[Found], second: Sequence[Found], config: FusingConfig = CONFIG) -> list[Found]:
    """Returns what both together find, the best first."""
    boxes, scores = Fused(Fixed(first), Fixed(second), config)(FRAME)
    assert boxes.shape == (1, len(first) + len(second), 4)
    rows, classes = scores[0].nonzero(as_tuple=True)
    assert len(set(rows.tolist())) == len(rows), "a box has a score of one class alone"
    found = [
        (tuple(boxes[0, row].tolist()), kind, float(scores[0, row, kind]))
        for row, kind in zip(rows.tolist(), classes.tolist(), strict=True)
    ]
    return sorted(found, key=lambda each: -each[2])  # type: ignore[arg-type,return-value]


def test_boxes_that_both_find_become_their_weighted_mean_with_the_sum_of_shares() -> None:
    (found,) = fuse([((0.1, 0.1, 0.5, 0.5), 0, 0.8)], [((0.2, 0.1, 0.5, 0.5), 0, 0.4)])
    # Shares are 0.8 * 0.75 = 0.6 and 0.4 * 0.25 = 0.1, so that the second box counts a seventh.
    assert found == near((0.1 + 0.1 / 7, 0.1, 0.5, 0.5), 0, 0.7)


def test_a_box_of_one_detector_keeps_its_share() -> None:
    found = fuse([((0.1, 0.1, 0.5, 0.5), 0, 0.8)], [((0.6, 0.6, 0.9, 0.9), 1, 0.4)])
    assert found == [near((0.1, 0.1, 0.5, 0.5), 0, 0.6), near((0.6, 0.6, 0.9, 0.9), 1, 0.1)]


def test_different_classes_never_fuse() -> None:
    box = (0.1, 0.1, 0.5, 0.5)
    assert fuse([(box, 1, 0.8)], [(box, 2, 0.4)]) == [near(box, 1, 0.6), near(box, 2, 0.1)]


def test_boxes_that_overlap_too_little_stay_apart() -> None:
    first, second = ((0.1, 0.1, 0.5, 0.5), 0, 0.8), ((0.1, 0.1, 0.3, 0.5), 0, 0.4)
    assert len(fuse([first], [second])) == 2, "an IoU of 0.5"
    assert len(fuse([first], [second], FusingConfig(iou=0.45))) == 1


def test_what_a_detector_says_twice_is_said_once() -> None:
    twice = [((0.1, 0.1, 0.5, 0.5), 0, 0.8), ((0.11, 0.1, 0.5, 0.5), 0, 0.6)]
    assert len(fuse(twice, [((0.8, 0.8, 0.9, 0.9), 0, 0.4)])) == 2
    (found,) = fuse(twice, [(box, kind, score / 2) for box, kind, score in twice])
    assert found == near((0.1, 0.1, 0.5, 0.5), 0, 0.7)


def test_boxes_fuse_only_where_each_is_the_others_best_match() -> None:
    middle = ((0.20, 0.1, 0.60, 0.5), 0, 0.4)
    near, far = ((0.22, 0.1, 0.62, 0.5), 0, 0.8), ((0.10, 0.1, 0.50, 0.5), 0, 0.9)
    found = fuse([far, near], [middle], FusingConfig(weight=0.25, iou=0.4, object_iou=0.9))
    scores = [score for _, _, score in found]
    assert scores == pytest.approx([0.7, 0.675]), "the middle box counts for the near one alone"
    assert found[1][0] == pytest.approx(far[0])


def test_what_is_doubted_too_much_is_dropped_before_fusing() -> None:
    box = (0.1, 0.1, 0.5, 0.5)
    (found,) = fuse([(box, 0, 0.8)], [(box, 0, 0.02)])
    assert found[2] == pytest.approx(0.6)
    assert fuse([(box, 0, 0.02)], [(box, 0, 0.02)]) == []


def test_only_the_best_boxes_of_each_detector_count() -> None:
    boxes = [((0.1 * number, 0.1, 0.1 * number + 0.08, 0.2), 0, 0.9 - 0.1 * number) for number in range(4)]
    fused = Fused(Fixed(boxes), Fixed(boxes), FusingConfig(detections=2))
    found, scores = fused(FRAME)
    assert found.shape == (1, 4, 4)
    assert sorted(scores[scores > 0].tolist()) == pytest.approx([0.8, 0.9])


def test_many_boxes_on_one_thing_push_no_other_thing_out() -> None:
    """Detectors give what they found before suppression."""
    same = [((0.1, 0.1, 0.5, 0.5 + number / 5000), 0, 0.9 - number / 1000) for number in range(150)]
    found = fuse([*same, ((0.7, 0.7, 0.9, 0.9), 1, 0.4)], [((0.7, 0.7, 0.9, 0.9), 1, 0.4)])
    assert [kind for _, kind, _ in found] == [0, 1]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Fixed([((0.0, 0.0, 1.0, 1.0), 0, 0.5)], names=("person", "cup")), "have different classes"),
        (Fixed([((0.0, 0.0, 1.0, 1.0), 0, 0.5)], size=(64, 96)), "frames of 64x64 and 96x64: import them for frames"),
    ],
)
def test_detectors_that_do_not_fit_together_are_refused(other: Fixed, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Fused(Fixed([((0.0, 0.0, 1.0, 1.0), 0, 0.5)]), other, CONFIG)


@pytest.mark.parametrize("change", [{"weight": 1.0}, {"iou": 0.0}, {"detections": 0}])
def test_numbers_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        FusingConfig(**change)  # type: ignore[arg-type]


def crowded(seed: int) -> Fixed:
    """Fifteen boxes of three classes, many of which lie on one another; the same places for every seed."""
    places, own = np.random.default_rng(0), np.random.default_rng(seed)
    corners = places.uniform(0, 0.6, (5, 2)).repeat(3, 0) + own.normal(0, 0.02, (15, 2))
    boxes = np.concatenate((corners, corners + places.uniform(0.2, 0.4, (5, 2)).repeat(3, 0)), 1).clip(0, 1)
    scores, kinds = own.uniform(0.1, 0.9, 15), places.integers(0, 3, 5).repeat(3)
    rows = zip(boxes.tolist(), kinds.tolist(), scores.tolist(), strict=True)
    return Fixed([(tuple(box), kind, score) for box, kind, score in rows])


def test_a_frame_gives_the_same_alone_and_among_others() -> None:
    fused = Fused(crowded(1), crowded(2), CONFIG)
    frames = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 64, 64, 3) * 100
    boxes, scores = fused(frames)
    assert 3 <= (scores[0] > 0).sum() < 15
    assert not scores[0].allclose(scores[1], atol=0.01)
    for number in range(3):
        alone_boxes, alone_scores = fused(frames[number : number + 1])
        assert torch.equal(boxes[number], alone_boxes[0])
        assert torch.equal(scores[number], alone_scores[0])


class Clips(nn.Module):
    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.detector(frames.flatten(0, 1))
        return boxes.unflatten(0, frames.shape[:2]), scores.unflatten(0, frames.shape[:2])


def test_onnx_gives_the_same_boxes_and_scores_for_any_number_of_frames(tmp_path: Path) -> None:
    fused = Fused(crowded(1), crowded(2), CONFIG)
    stage = NetworkStage("detector", Clips(fused).eval(), (FRAMES,), ("boxes", "scores"), "frame")
    (written,) = export_stages([stage], sample_inputs(fused.frame_size, 3), {"boxes", "scores"}, 3, tmp_path)
    assert [output.shape for output in written.outputs] == [("batch", "time", 30, 4), ("batch", "time", 30, 3)]
    session = open_session(tmp_path / written.file, threads=1)
    for batch, time in ((1, 1), (2, 3)):
        light = np.linspace(0, 200, batch * time).astype(np.uint8).reshape(batch, time, 1, 1, 1)
        frames = np.broadcast_to(light, (batch, time, 64, 64, 3)).copy()
        expected = stage.run({FRAMES: frames})
        boxes, scores = session.run(["boxes", "scores"], {FRAMES: frames})
        assert (scores > 0).sum() == (expected["scores"] > 0).sum()
        assert np.abs(boxes - expected["boxes"]).max() < 1e-5
        assert np.abs(scores - expected["scores"]).max() < 1e-5

"""Dense suppression against a greedy loop in Python numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from models.networks.detectors.suppression import suppress


def overlap(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def greedy(boxes: Tensor, scores: Tensor, iou: float, least_score: float) -> Tensor:
    """(G, S, 4), (G, S) -> (G, S): the best box that is left stays and drops what it overlaps, group by group."""
    keep = torch.zeros(scores.shape, dtype=torch.bool)
    for group, (places, values) in enumerate(zip(boxes.tolist(), scores.tolist(), strict=True)):
        left = [index for index in sorted(range(len(values)), key=lambda index: -values[index])
                if values[index] > least_score]  # fmt: skip
        while left:
            best, *left = left
            keep[group, best] = True
            left = [index for index in left if overlap(places[best], places[index]) <= iou]
    return keep


def some_boxes(*shape: int, size: float = 100.0, seed: int = 0) -> Tensor:
    random = torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed))
    corner = random[..., :2] * size * 0.5
    return torch.cat((corner, corner + (0.2 + random[..., 2:] * 0.3) * size), -1)


def test_groups_are_suppressed_separately_as_in_a_loop() -> None:
    boxes = some_boxes(6, 20)
    scores = torch.rand(6, 20, generator=torch.Generator().manual_seed(1))
    for iou, least_score in ((0.3, 0.0), (0.5, 0.4), (0.7, 0.99)):
        keep = suppress(boxes, scores, iou, least_score)
        assert torch.equal(keep, greedy(boxes, scores, iou, least_score)), iou
    assert 0 < suppress(boxes, scores, 0.5, 0.4).sum() < (scores > 0.4).sum(), "some stay, some go"


def test_one_place_may_be_taken_once_in_each_group() -> None:
    boxes = torch.tensor((0.0, 0.0, 10.0, 10.0)).expand(3, 2, 4)
    scores = torch.tensor(((0.5, 0.9), (0.9, 0.5), (0.9, 0.9)))
    keep = suppress(boxes, scores, 0.5, 0.1)
    assert keep.tolist() == [[False, True], [True, False], [True, False]], "of equal scores the first stays"


def test_limits_are_strict() -> None:
    half = torch.tensor((((0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 5.0, 10.0)),))
    assert suppress(half, torch.tensor(((0.9, 0.8),)), 0.5, 0.0).tolist() == [[True, True]]
    assert suppress(half, torch.tensor(((0.9, 0.8),)), 0.49, 0.0).tolist() == [[True, False]]
    assert suppress(half, torch.tensor(((0.9, 0.25),)), 0.9, 0.25).tolist() == [[True, False]]


def test_suppression_of_no_boxes_keeps_none() -> None:
    assert suppress(torch.zeros(0, 4, 4), torch.zeros(0, 4), 0.5, 0.1).shape == (0, 4)
    assert suppress(torch.zeros(2, 0, 4), torch.zeros(2, 0), 0.5, 0.1).shape == (2, 0)
    assert not suppress(some_boxes(2, 3), torch.full((2, 3), 0.1), 0.5, 0.1).any()


def test_a_group_does_not_depend_on_how_many_others_there_are() -> None:
    # Boxes that overlap by next to nothing more or less than the limit, as they are found at an odd place.
    wide = torch.tensor((3.1, 5.7, 503.1, 405.7)).expand(400, 1, 4)
    shift = (500 / 3 + torch.linspace(-2e-3, 2e-3, 400))[:, None, None] * torch.tensor((1.0, 0.0, 1.0, 0.0))
    boxes = torch.cat((wide, wide + shift), 1)  # IoU 0.5 at a shift of a third
    scores = torch.tensor((0.9, 0.8)).expand(400, 2)
    together = suppress(boxes, scores, 0.5, 0.1)
    alone = torch.cat([suppress(boxes[group : group + 1], scores[:1], 0.5, 0.1) for group in range(400)])
    assert torch.equal(together, alone)
    assert 50 < together[:, 1].sum() < 350


def test_the_output_shape_is_known_without_running() -> None:
    with torch.device("meta"):
        kept = suppress(torch.zeros(5, 7, 4), torch.zeros(5, 7), 0.5, 0.1)
    assert (kept.shape, kept.dtype) == ((5, 7), torch.bool)

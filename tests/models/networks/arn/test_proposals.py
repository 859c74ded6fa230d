"""The dense head and the region sampler: the aids that start a compact network's queries."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.graph.vocabulary import ACTION_GENOME
from models.networks.arn.proposals import BoxPosition, DenseDetections, DenseHead, RegionSampler
from models.networks.boxes import to_corners
from tests.support.networks import SMALL_WORLD

ROWS, COLUMNS, WIDTH = 6, 8, 16


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_sampler_equals_grid_sample_with_border_padding() -> None:
    grid = 3
    sampler = RegionSampler(WIDTH, grid)
    sampler.add_module("project", nn.Identity())  # what is sampled, before it is projected
    fine = random(2, WIDTH, ROWS, COLUMNS)
    boxes = random(2, 9, 4, seed=1)  # some reach over the edge of the frame
    steps = (torch.arange(grid) + 0.5) / grid - 0.5
    x = boxes[..., 0:1] + boxes[..., 2:3] * steps  # (N, Q, G)
    y = boxes[..., 1:2] + boxes[..., 3:4] * steps
    places = torch.stack((x[:, :, None, :].expand(-1, -1, grid, -1), y[..., None].expand(-1, -1, -1, grid)), -1)
    wanted = F.grid_sample(fine, places.flatten(1, 2) * 2 - 1, padding_mode="border", align_corners=False)
    wanted = wanted.unflatten(2, (9, grid)).permute(0, 2, 3, 4, 1)  # (N, Q, G, G, D)
    torch.testing.assert_close(sampler(fine, boxes), wanted.flatten(2), atol=1e-5, rtol=0)


def test_a_sample_at_a_cells_centre_is_that_cell() -> None:
    sampler = RegionSampler(WIDTH, 1)
    sampler.add_module("project", nn.Identity())
    fine = random(1, WIDTH, ROWS, COLUMNS)
    centre = torch.tensor((((5 + 0.5) / COLUMNS, (2 + 0.5) / ROWS, 0.3, 0.3),))[None]
    torch.testing.assert_close(sampler(fine, centre)[0, 0], fine[0, :, 2, 5])


@pytest.fixture
def head() -> DenseHead:
    return DenseHead(WIDTH, ROWS, COLUMNS, ACTION_GENOME).eval()


def planted(head: DenseHead, peaks: dict[tuple[int, int], float], person: tuple[int, int]) -> DenseDetections:
    """One frame with object peaks at (row, column), and a person."""
    logits = torch.full((1, ROWS, COLUMNS, 36), -8.0)
    for (row, column), logit in peaks.items():
        logits[0, row, column, 1 + (row + column) % 35] = logit
    logits[0, person[0], person[1], 0] = 3.0
    boxes = random(1, ROWS * COLUMNS, 4, seed=3)
    return DenseDetections(logits.flatten(1, 2), boxes, boxes.flip(-1), head.centres, head.cell_size)


def test_proposals_are_the_planted_peaks_best_first_and_the_person(head: DenseHead) -> None:
    # (1, 2) is stronger than (4, 6), but stands beside a still stronger one: a shoulder, not a peak.
    detections = planted(head, {(1, 1): 4.0, (1, 2): 2.0, (4, 6): 1.0, (5, 0): 0.0}, person=(3, 3))
    fine = random(1, WIDTH, ROWS, COLUMNS)
    proposals = head.propose(fine, detections, 3)
    cells = [1 * COLUMNS + 1, 4 * COLUMNS + 6, 5 * COLUMNS + 0]
    torch.testing.assert_close(proposals.object_boxes[0], detections.object_boxes[0, cells])
    torch.testing.assert_close(proposals.object_features[0], fine.flatten(2)[0, :, cells].T)
    person = 3 * COLUMNS + 3
    torch.testing.assert_close(proposals.subject_boxes[0], detections.subject_boxes[0, [person] * 3])
    torch.testing.assert_close(proposals.subject_features[0], fine.flatten(2)[0, :, [person] * 3].T)
    assert proposals.subject_score.item() == pytest.approx(torch.tensor(3.0).sigmoid().item())


def test_the_best_of_several_subjects_is_proposed_with_its_class() -> None:
    head = DenseHead(WIDTH, ROWS, COLUMNS, SMALL_WORLD).eval()
    logits = torch.full((1, ROWS * COLUMNS, len(SMALL_WORLD.objects)), -8.0)
    robot, person = SMALL_WORLD.object_index["robot"], SMALL_WORLD.object_index["person"]
    logits[0, 11, robot], logits[0, 30, person], logits[0, 7, SMALL_WORLD.object_index["lamp"]] = 2.0, 1.0, 0.0
    boxes = random(1, ROWS * COLUMNS, 4, seed=3)
    detections = DenseDetections(logits, boxes, boxes.flip(-1), head.centres, head.cell_size)
    proposals = head.propose(random(1, WIDTH, ROWS, COLUMNS), detections, 1)
    assert proposals.subject_class.tolist() == [robot]
    torch.testing.assert_close(proposals.subject_boxes[0, 0], detections.subject_boxes[0, 11])
    torch.testing.assert_close(proposals.object_boxes[0, 0], detections.object_boxes[0, 7])


def test_peaks_of_the_person_class_are_no_objects(head: DenseHead) -> None:
    detections = planted(head, {(0, 7): -2.0}, person=(3, 3))
    proposals = head.propose(random(1, WIDTH, ROWS, COLUMNS), detections, 1)
    torch.testing.assert_close(proposals.object_boxes[0, 0], detections.object_boxes[0, 7])


def test_boxes_are_distances_from_the_cell_in_cells(head: DenseHead) -> None:
    head.distances.weight.data.zero_()
    head.distances.bias.data = torch.tensor((1.0, 2.0, 3.0, 1.5, 1.0, 1.0, 1.0, 1.0)).log()
    detections = head(random(1, WIDTH, ROWS, COLUMNS))
    cell = 3 * COLUMNS + 4
    x, y = 4.5, 3.5
    wanted = torch.tensor(((x - 1) / COLUMNS, (y - 2) / ROWS, (x + 3) / COLUMNS, (y + 1.5) / ROWS))
    torch.testing.assert_close(to_corners(detections.object_boxes[0, cell]), wanted)
    corners = to_corners(torch.cat((detections.object_boxes, detections.subject_boxes), 1))
    assert corners.min() >= -1e-6, "boxes end at the frame"
    assert corners.max() <= 1 + 1e-6


def test_the_head_starts_unsure_that_there_is_anything(head: DenseHead) -> None:
    head.classes.weight.data.zero_()
    probabilities = head(random(1, WIDTH, ROWS, COLUMNS)).class_logits.sigmoid()
    torch.testing.assert_close(probabilities, torch.full_like(probabilities, 0.02))


def test_position_codes_tell_boxes_apart() -> None:
    position = BoxPosition(WIDTH)
    codes = position(torch.tensor(((0.5, 0.5, 0.2, 0.2), (0.5, 0.5, 0.2, 0.3), (0.2, 0.5, 0.2, 0.2))))
    assert codes.shape == (3, WIDTH)
    assert torch.pdist(codes).min() > 0.05

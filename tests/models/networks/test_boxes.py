"""Boxes against torchvision's operators and by hand."""

from __future__ import annotations

import pytest
import torch
from torchvision import ops

from models.networks.boxes import area, paired_generalised_iou, to_centres, to_corners


def corner_boxes(count: int, seed: int) -> torch.Tensor:
    ends = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat((ends.amin(1), ends.amax(1)), -1)


def test_centre_boxes_and_corner_boxes_turn_into_each_other() -> None:
    boxes = corner_boxes(50, 0)
    torch.testing.assert_close(to_centres(torch.tensor((0.2, 0.1, 0.6, 0.9))), torch.tensor((0.4, 0.5, 0.4, 0.8)))
    torch.testing.assert_close(to_corners(to_centres(boxes)), boxes)


def test_iou_and_generalised_iou_of_all_pairs_are_torchvisions() -> None:
    first, second = corner_boxes(40, 1), corner_boxes(30, 2)
    iou, giou = paired_generalised_iou(first[:, None], second[None])
    torch.testing.assert_close(iou, ops.box_iou(first, second))
    torch.testing.assert_close(giou, ops.generalized_box_iou(first, second))


def test_generalised_iou_equals_a_case_by_hand() -> None:
    left, right = torch.tensor((0.0, 0.0, 0.2, 0.5)), torch.tensor((0.8, 0.0, 1.0, 0.5))
    iou, giou = paired_generalised_iou(left, right)
    assert iou == 0
    assert giou.item() == pytest.approx(-(0.5 - 0.2) / 0.5)  # the hull has area 0.5, the boxes cover 0.2 of it


def test_iou_of_boxes_without_area_is_finite() -> None:
    point = torch.tensor((0.5, 0.5, 0.5, 0.5))
    iou, giou = paired_generalised_iou(point, point)
    assert torch.isfinite(torch.stack((iou, giou))).all()
    assert area(torch.tensor((0.6, 0.2, 0.4, 0.8))) == 0  # turned inside out

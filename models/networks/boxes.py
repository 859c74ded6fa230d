"""Boxes as tensors, in fractions of the frame: centre boxes (cx, cy, w, h) and corner boxes (x1, y1, x2, y2)."""

from __future__ import annotations

import torch
from torch import Tensor


def to_corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre boxes to corner boxes."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat((centre - size / 2, centre + size / 2), -1)


def to_centres(boxes: Tensor) -> Tensor:
    """(..., 4) corner boxes to centre boxes."""
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((first + second) / 2, second - first), -1)


def inverse_sigmoid(values: Tensor, margin: float = 1e-4) -> Tensor:
    """Logit of numbers clamped to [margin, 1 - margin]."""
    clamped = values.clamp(margin, 1 - margin)
    return torch.log(clamped / (1 - clamped))


def area(boxes: Tensor) -> Tensor:
    """(..., 4) corner boxes -> (...,); never negative."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def paired_generalised_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of corner boxes that broadcast against each other: (..., 4) x 2 -> (...,) x 2."""
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = area(first) + area(second) - intersection
    iou = intersection / union.clamp(min=1e-9)
    hull_low, hull_high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    hull = (hull_high - hull_low).clamp(min=0).prod(-1)
    return iou, iou - (hull - union) / hull.clamp(min=1e-9)

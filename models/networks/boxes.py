"""Boxes as tensors, in fractions of the frame: centre boxes (cx, cy, w, h) and corner boxes (x1, y1, x2, y2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert


def to_corners(boxes: Tensor) -> Tensor:
    """Turns centre boxes (..., 4) into corner boxes (..., 4)."""
    corners: Tensor = box_convert(boxes, "cxcywh", "xyxy")
    return corners


def to_centres(boxes: Tensor) -> Tensor:
    """Turns corner boxes (..., 4) into centre boxes (..., 4)."""
    centres: Tensor = box_convert(boxes, "xyxy", "cxcywh")
    return centres


def area(boxes: Tensor) -> Tensor:
    """Returns the areas (...,) of corner boxes (..., 4), 0 for a box that is turned inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def paired_generalised_iou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Returns IoU and generalised IoU (...,) of corner boxes (..., 4) that broadcast against each other.

    Boxes without an area give numbers too. torchvision's functions do not, and they take two lists of boxes only.
    """
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = area(first) + area(second) - intersection
    iou = intersection / union.clamp(min=1e-9)
    hull_low, hull_high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    hull = (hull_high - hull_low).clamp(min=0).prod(-1)
    return iou, iou - (hull - union) / hull.clamp(min=1e-9)

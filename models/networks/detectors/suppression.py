"""Non-maximum suppression that returns a mask of fixed shape, so that graphs with it stay static."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms


@torch.library.custom_op("vsg::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou: float, least_score: float) -> Tensor:
    """Runs torchvision's greedy suppression within groups. Returns (G, S) bool, true for boxes that stay.

    A box stays when its score is over `least_score` and no better box that stays overlaps it by more than `iou`.

    boxes: (G, S, 4) corner boxes.
    scores: (G, S).
    """
    groups, size = scores.shape
    # In double precision: torchvision shifts each group far away from the others, where float32 is too coarse.
    flat, ranks = boxes.reshape(-1, 4).double(), scores.reshape(-1)
    candidates = torch.nonzero(ranks > least_score).squeeze(1)
    keep = torch.zeros(groups * size, dtype=torch.bool, device=scores.device)
    kept = batched_nms(flat[candidates], ranks[candidates].double(), candidates // size, iou)
    keep[candidates[kept]] = True
    return keep.view(groups, size)


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float, least_score: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)

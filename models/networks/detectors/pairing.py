"""Which of the subjects and objects of a frame are paired."""

from __future__ import annotations

import math

import torch
from torch import Tensor

REACH = 0.5
"""An object is near a subject where the gap between their boxes is at most this share of the subject's longer side."""


def pair_up(subjects: Tensor, found: Tensor, objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which subject and which object each of P pairs joins, and whether the two are near each other: (N, P) x 3.

    Each object is paired with the subject nearest to it, and with all others within `REACH`. Better objects come first,
    and of one object the better subject; so one subject has every object, in order.

    subjects: (N, K, 4) corner boxes, the best first.
    found: (N, K) bool, which of them are any.
    objects: (N, P, 4) corner boxes, the best first.
    """
    count, slots = subjects.shape[1], objects.shape[1]
    gap = torch.maximum(
        subjects[:, None, :, :2] - objects[..., None, 2:], objects[..., None, :2] - subjects[:, None, :, 2:]
    )
    side = (subjects[..., 2:] - subjects[..., :2]).amax(-1).clamp(min=1.0)  # (N, K) pixels
    distance = gap.clamp(min=0).square().sum(-1).sqrt() / side[:, None]  # (N, P, K)
    distance = torch.where(found[:, None], distance, math.inf)
    nearest = distance.argmin(-1, keepdim=True) == torch.arange(count, device=distance.device)
    near = (nearest | (distance <= REACH)).flatten(1)  # (N, P * K), objects one after the other
    # Ranks by place, none equal to another: runtimes would break ties in ways of their own.
    places = torch.arange(slots * count, 0, -1, device=distance.device, dtype=torch.float32)
    ranks, order = torch.where(near, places, -places).topk(slots, dim=1)
    return order % count, order // count, ranks > 0

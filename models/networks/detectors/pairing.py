"""Pairing of the subjects of a frame with its objects."""

from __future__ import annotations

import math

import torch
from torch import Tensor

REACH = 0.5
"""An object is near a subject where the gap between their boxes is at most this share of the subject's longer side."""


def pair_up(
    subjects: Tensor, found: Tensor, objects: Tensor, pairs: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the subject and the object of each of P pairs, and whether the two are near each other: (N, P) each.

    Each object is paired with the subject nearest to it, and with all others within `REACH`. Pairs are sorted by
    object, then by subject, the best first. So a single subject has every object, in order.

    subjects: (N, K, 4) corner boxes, the best first.
    found: (N, K) bool, true where there is a subject.
    objects: (N, H, 4) corner boxes, the best first.
    pairs: P, at most H * K; by default H.
    """
    count, slots = subjects.shape[1], objects.shape[1]
    gap = torch.maximum(
        subjects[:, None, :, :2] - objects[..., None, 2:], objects[..., None, :2] - subjects[:, None, :, 2:]
    )
    side = (subjects[..., 2:] - subjects[..., :2]).amax(-1).clamp(min=1.0)  # (N, K) pixels
    distance = gap.clamp(min=0).square().sum(-1).sqrt() / side[:, None]  # (N, H, K)
    distance = torch.where(found[:, None], distance, math.inf)
    nearest = distance.argmin(-1, keepdim=True) == torch.arange(count, device=distance.device)
    near = (nearest | (distance <= REACH)).flatten(1)  # (N, H * K), objects one after the other
    # Ranks by place, so that no two are equal: runtimes break ties differently.
    places = torch.arange(slots * count, 0, -1, device=distance.device, dtype=torch.float32)
    ranks, order = torch.where(near, places, -places).topk(pairs or slots, dim=1)
    return order % count, order // count, ranks > 0

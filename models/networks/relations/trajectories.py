"""Pairs of a clip as trajectories: all pairs whose object has one class, in order of time (TR², MoSA)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trajectories:
    """Which of the N = T * P slots of a clip follow each other; slots are numbered frame by frame.

    same      (B, N, N) bool, true where both slots hold pairs of one object class
    position  (B, N) int64, how many pairs of the same class come before
    previous  (B, N) int64, the slot of the pair before it; its own where it is the first
    first     (B, N) bool, true where no pair of the class comes before
    """

    same: Tensor
    position: Tensor
    previous: Tensor
    first: Tensor


def follow(labels: Tensor, mask: Tensor) -> Trajectories:
    """Trajectories by class: (B, T, P) int64 labels and (B, T, P) bool. Object identities do not exist in the data."""
    label, real = labels.flatten(1), mask.flatten(1)  # (B, N)
    same = (label[:, :, None] == label[:, None]) & real[:, :, None] & real[:, None]
    order = torch.arange(label.shape[1], device=labels.device)
    before = same & (order[None, :] < order[:, None])
    latest = torch.where(before, order, -1).amax(-1)
    return Trajectories(same, before.sum(-1), torch.where(latest < 0, order, latest), latest < 0)


def gather_slots(values: Tensor, slots: Tensor) -> Tensor:
    """Values of other slots: (B, N, D) and (B, N) int64 -> (B, N, D)."""
    return values.gather(1, slots[..., None].expand(-1, -1, values.shape[-1]))

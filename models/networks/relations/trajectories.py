"""Trajectories: all pairs of a clip with one person and one class of object, in order of time (TR², MoSA)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.boxes import to_centres
from models.networks.relations.pairs import Pairs

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of the N = T * P slots of a clip, which are numbered frame by frame.

    same: (B, N, N) bool, true where both slots hold pairs of one person with one object class.
    position: (B, N) int64, number of pairs of the trajectory that come before.
    previous: (B, N) int64, slot of the pair before; the pair's own slot where it is the first.
    first: (B, N) bool, true where no pair of the trajectory comes before.
    """

    same: Tensor
    position: Tensor
    previous: Tensor
    first: Tensor


def follow(pairs: Pairs) -> Trajectories:
    """Groups pairs into trajectories by person and class of object, because the data have no identities."""
    label, real = pairs.labels.flatten(1), pairs.mask.flatten(1)  # (B, N)
    same = (label[:, :, None] == label[:, None]) & real[:, :, None] & real[:, None] & same_person(pairs)
    order = torch.arange(label.shape[1], device=label.device)
    before = same & (order[None, :] < order[:, None])
    latest = torch.where(before, order, -1).amax(-1)
    return Trajectories(same, before.sum(-1), torch.where(latest < 0, order, latest), latest < 0)


@dataclass(frozen=True)
class SortedTrajectories:
    """Trajectories of the N = T * P slots of a video with one subject, in memory that grows linearly with N.

    order: (B, N) int64, slots sorted by trajectory and within one by time; slots without a pair come last.
    rank: (B, N) int64, the place of each slot in `order`.
    identity: (B, N) int64, number of the slot's trajectory from 1; 0 for slots without a pair.
    position, previous, first: as in `Trajectories`.
    """

    order: Tensor
    rank: Tensor
    identity: Tensor
    position: Tensor
    previous: Tensor
    first: Tensor


AnyTrajectories = Trajectories | SortedTrajectories


def trajectories_of(pairs: Pairs, *, whole_video: bool) -> AnyTrajectories:
    """Returns the trajectories in the form for clips, or in that for whole videos."""
    return sort_trajectories(pairs) if whole_video else follow(pairs)


def sort_trajectories(pairs: Pairs) -> SortedTrajectories:
    """Groups the pairs of a video with one subject a frame into trajectories, by the object's class."""
    real, classes = pairs.mask.flatten(1), pairs.object_scores.shape[-1]
    kind = torch.where(real, pairs.labels.flatten(1), classes)  # (B, N)
    place = torch.arange(kind.shape[1], device=kind.device).expand_as(kind)
    order = (kind * kind.shape[1] + place).argsort(-1)
    rank = order.argsort(-1)
    counts = nn.functional.one_hot(kind, classes + 1).sum(1)  # (B, classes + 1)
    position = torch.where(real, rank - (counts.cumsum(-1) - counts).gather(1, kind), 0)
    first = position == 0
    previous = torch.where(first, place, order.gather(1, (rank - 1).clamp(min=0)))
    return SortedTrajectories(order, rank, torch.where(real, kind + 1, 0), position, previous, first)


def same_person(pairs: Pairs) -> Tensor:
    """Tells whether two slots of a clip have the same person as their subject: returns (B, N, N) bool.

    Two persons of different frames are the same where each is, of all persons of its frame, the nearest to the other.
    So where every frame has one person, it is always the same one. Results for slots without a pair mean nothing.
    """
    real = pairs.mask.flatten(1)  # (B, N)
    across, down = to_centres(pairs.subject_boxes)[..., :2].flatten(1, 2).unbind(-1)  # (B, N) each
    squared = (across[:, :, None] - across[:, None]) ** 2 + (down[:, :, None] - down[:, None]) ** 2
    squared = torch.where(real[:, None], squared, math.inf)  # from each slot to each real one
    by_frame = squared.unflatten(-1, pairs.mask.shape[1:])  # (B, N, T, P)
    nearest = (by_frame <= by_frame.amin(-1, keepdim=True) + _ROUNDING).flatten(2)
    mutual: Tensor = nearest & nearest.transpose(1, 2)
    return mutual


def gather_slots(values: Tensor, slots: Tensor) -> Tensor:
    """Returns for each slot the values (B, N, D) of another one; `slots` (B, N) int64 names it."""
    return values.gather(1, slots[..., None].expand(-1, -1, values.shape[-1]))

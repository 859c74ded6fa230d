"""Motion of a pair's subject and object: MoSA's motion features (MFE), and their fusion with the frame's pairs (MIM).

The paper is silent on two points. This code makes these choices:

* Boxes are fractions of the frame, whose pixel aspect is not known here. So distances and directions are in fractions
  of its width and height, and its diagonal is sqrt(2).
* Objects have no identity. To find a pair's earlier occurrence, take the most recent earlier frame that has a pair of
  the same person and object class. In it, take the pair whose object lies nearest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.networks.boxes import paired_generalised_iou, to_centres
from models.networks.layers import Attention
from models.networks.relations.pairs import Pairs
from models.networks.relations.trajectories import follow, sort_trajectories

ATTRIBUTES = 4
_DIAGONAL = math.sqrt(2)
_STANDSTILL = 1e-6


def previous_occurrences(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Finds the previous occurrence of each pair. A clip has N = T * P slots, numbered frame by frame.

    Returns the slot of the previous occurrence, (B, N) int64, and whether there is one, (B, N) bool. A pair without one
    has its own slot.
    """
    same = follow(pairs).same
    slots = torch.arange(same.shape[-1], device=same.device)
    frame = slots // pairs.mask.shape[2]
    earlier = same & (frame[None, :] < frame[:, None])
    latest = torch.where(earlier, frame, -1).amax(-1, keepdim=True)  # (B, N, 1), -1 without an earlier frame
    across, down = to_centres(pairs.object_boxes)[..., :2].flatten(1, 2).unbind(-1)  # (B, N) each
    squared = (across[:, :, None] - across[:, None]) ** 2 + (down[:, :, None] - down[:, None]) ** 2
    nearest = torch.where(earlier & (frame == latest), squared, math.inf).argmin(-1)
    seen = latest[..., 0] >= 0
    return torch.where(seen, nearest, slots), seen


def previous_occurrences_in_video(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Does as `previous_occurrences`, for one subject a frame; its memory grows linearly with the frames."""
    slots = pairs.mask.shape[2]
    labels, real = pairs.labels.flatten(1), pairs.mask.flatten(1)  # (B, N)
    trajectories = sort_trajectories(pairs)
    place = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    beside = (pairs.labels[..., None] == pairs.labels[..., None, :]) & pairs.mask[..., None, :]  # (B, T, P, P)
    first = beside.int().argmax(-1).flatten(1) + place // slots * slots  # the first of its class in its frame
    seen = ~trajectories.first.gather(1, first) & real
    frame = trajectories.previous.gather(1, first) // slots
    candidates = frame[..., None] * slots + torch.arange(slots, device=frame.device)  # (B, N, P)

    def of_candidates(values: Tensor) -> Tensor:
        found: Tensor = values.gather(1, candidates.flatten(1)).unflatten(1, (-1, slots))
        return found

    across, down = to_centres(pairs.object_boxes)[..., :2].flatten(1, 2).unbind(-1)  # (B, N) each
    squared = (of_candidates(across) - across[..., None]) ** 2 + (of_candidates(down) - down[..., None]) ** 2
    same = of_candidates(real) & (of_candidates(labels) == labels[..., None])
    nearest = torch.where(same, squared, math.inf).argmin(-1, keepdim=True)
    return torch.where(seen, candidates.gather(-1, nearest)[..., 0], place), seen


def motion_attributes(pairs: Pairs, window: int, *, whole_video: bool = False) -> Tensor:
    """Computes distance, velocity, mean IoU and agreement of directions (MoSA eq 3-6): (B, T, P, 4) float32.

    The distance is that between the centres of both boxes, in diagonals of the frame. The velocity is the change of
    the distance since the pair's previous occurrence, in diagonals per second, and positive where they part. It is 0 at
    the first occurrence and where no time has passed. The mean IoU is that of both boxes over the pair's last
    occurrences. The agreement is the cosine between the displacements of both centres since the previous occurrence,
    and 0 at the first occurrence or where either stands still.

    window: most occurrences in the mean IoU. A pair with fewer takes all it has.
    whole_video: finds earlier occurrences in memory that grows linearly with the frames.
    """
    time, slots = pairs.mask.shape[1:]
    previous, seen = previous_occurrences_in_video(pairs) if whole_video else previous_occurrences(pairs)
    subject_boxes, object_boxes = pairs.subject_boxes.flatten(1, 2), pairs.object_boxes.flatten(1, 2)  # (B, N, 4)
    subject_centres, object_centres = to_centres(subject_boxes)[..., :2], to_centres(object_boxes)[..., :2]
    seconds = pairs.timestamps[:, :, None].expand(-1, -1, slots).flatten(1)  # (B, N)

    distance = (subject_centres - object_centres).norm(dim=-1) / _DIAGONAL
    passed = seconds - seconds.gather(1, previous)
    moving = passed > 0
    velocity = torch.where(moving, (distance - distance.gather(1, previous)) / torch.where(moving, passed, 1.0), 0.0)
    iou, _ = paired_generalised_iou(subject_boxes, object_boxes)
    agreement = _direction_agreement(_displacement(subject_centres, previous), _displacement(object_centres, previous))
    attributes = torch.stack((distance, velocity, _recent_mean(iou, previous, seen, window), agreement), -1)
    by_slot: Tensor = attributes.unflatten(1, (time, slots))
    return by_slot


def _recent_mean(values: Tensor, previous: Tensor, seen: Tensor, window: int) -> Tensor:
    """Returns the mean of values (B, N) over each slot and the `window` - 1 occurrences before it."""
    total, count = values, torch.ones_like(values)
    slot, alive = previous, seen
    for _ in range(window - 1):
        total = total + torch.where(alive, values.gather(1, slot), 0.0)
        count = count + alive
        slot, alive = previous.gather(1, slot), alive & seen.gather(1, slot)
    return total / count


def _displacement(centres: Tensor, previous: Tensor) -> Tensor:
    """Returns the way (B, N, 2) of each centre (B, N, 2) from that of its previous slot (B, N)."""
    return centres - centres.gather(1, previous[..., None].expand(-1, -1, 2))


def _direction_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Returns the cosine (B, N) of vectors (B, N, 2), 0 where either has no length."""
    lengths = torch.stack((first.norm(dim=-1), second.norm(dim=-1)))
    still = (lengths < _STANDSTILL).any(0)
    return torch.where(still, 0.0, (first * second).sum(-1) / torch.where(still, 1.0, lengths.prod(0)))


class MotionFeatures(nn.Module):
    """Motion Feature Extractor: encodes the four attributes by a small perceptron."""

    def __init__(self, width: int, hidden: int, window: int, *, whole_video: bool = False) -> None:
        super().__init__()
        self.window = window
        self.whole_video = whole_video
        self.encode = nn.Sequential(
            nn.Linear(ATTRIBUTES, hidden), nn.ReLU(), nn.LayerNorm(hidden), nn.Linear(hidden, width)
        )

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns motion features, (B, T, P, D)."""
        features: Tensor = self.encode(motion_attributes(pairs, self.window, whole_video=self.whole_video))
        return features


class MotionInteraction(nn.Module):
    """Motion-guided Interaction Module: attention from motion to the frame's pairs (MoSA eq 7-8)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, spatial: Tensor, motion: Tensor, mask: Tensor) -> Tensor:
        """Fuses (B, T, P, D) and (B, T, P, D) into (B, T, P, D).

        mask: (B, T, P) bool, true where a slot holds a pair.
        """
        attended = self.attention(motion, spatial, spatial, mask)
        fused: Tensor = self.norm(spatial + self.dropout(attended))
        return fused


class MotionConcatenation(nn.Module):
    """MIM's replacement in the paper's ablation: one linear layer on both, side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(self, spatial: Tensor, motion: Tensor, mask: Tensor) -> Tensor:
        """Fuses as `MotionInteraction` does. The mask is ignored, because no pair sees another."""
        fused: Tensor = self.linear(torch.cat((spatial, motion), -1))
        return fused

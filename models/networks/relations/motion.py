"""How person and object of a pair move: MoSA's motion features (MFE) and their union with what the frame shows (MIM).

Where the paper is silent, this is chosen:

* Boxes are fractions of the frame, whose pixel aspect is not known here. So distances and directions are in fractions
  of its width and height, and its diagonal is sqrt(2).
* Objects have no identity. The earlier occurrence of a pair is, among the pairs of the same person and object class in
  the most recent earlier frame that has any, the one whose object lies nearest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.networks.boxes import paired_generalised_iou, to_centres
from models.networks.layers import Attention
from models.networks.relations.pairs import Pairs
from models.networks.relations.trajectories import follow

ATTRIBUTES = 4
_DIAGONAL = math.sqrt(2)
_STANDSTILL = 1e-6


def previous_occurrences(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Where each pair was before: its slot (B, N) int64 among the N = T * P of a clip, numbered frame by frame, its
    own where it was not there before; and (B, N) bool, true where it was.
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


def motion_attributes(pairs: Pairs, window: int) -> Tensor:
    """Distance, velocity, mean IoU and agreement of directions (MoSA eq 3-6): (B, T, P, 4) float32.

    distance   between the centres of person and object, in diagonals of the frame
    velocity   change of the distance since the pair's previous occurrence, in diagonals per second, positive where
               they part; 0 at the first occurrence and where no time has passed
    mean IoU   of both boxes over the pair's last `window` occurrences, fewer where there are not as many
    directions cosine between the displacements of both centres since the previous occurrence; 0 where either stands
               still or at the first occurrence
    """
    time, slots = pairs.mask.shape[1:]
    previous, seen = previous_occurrences(pairs)
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
    """Mean of (B, N) over each slot and the `window` - 1 occurrences before it."""
    total, count = values, torch.ones_like(values)
    slot, alive = previous, seen
    for _ in range(window - 1):
        total = total + torch.where(alive, values.gather(1, slot), 0.0)
        count = count + alive
        slot, alive = previous.gather(1, slot), alive & seen.gather(1, slot)
    return total / count


def _displacement(centres: Tensor, previous: Tensor) -> Tensor:
    """(B, N, 2) and (B, N) -> (B, N, 2)."""
    return centres - centres.gather(1, previous[..., None].expand(-1, -1, 2))


def _direction_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of (B, N, 2) vectors, 0 where either has no length: (B, N)."""
    lengths = torch.stack((first.norm(dim=-1), second.norm(dim=-1)))
    still = (lengths < _STANDSTILL).any(0)
    return torch.where(still, 0.0, (first * second).sum(-1) / torch.where(still, 1.0, lengths.prod(0)))


class MotionFeatures(nn.Module):
    """Motion Feature Extractor: the four attributes through a small perceptron."""

    def __init__(self, width: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.encode = nn.Sequential(
            nn.Linear(ATTRIBUTES, hidden), nn.ReLU(), nn.LayerNorm(hidden), nn.Linear(hidden, width)
        )

    def forward(self, pairs: Pairs) -> Tensor:
        """Returns (B, T, P, D)."""
        features: Tensor = self.encode(motion_attributes(pairs, self.window))
        return features


class MotionInteraction(nn.Module):
    """Motion-guided Interaction Module: motion asks, the frame's pairs answer (MoSA eq 7-8)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, spatial: Tensor, motion: Tensor, mask: Tensor) -> Tensor:
        """(B, T, P, D) x 2 and (B, T, P) bool -> (B, T, P, D)."""
        attended = self.attention(motion, spatial, spatial, mask)
        fused: Tensor = self.norm(spatial + self.dropout(attended))
        return fused


class MotionConcatenation(nn.Module):
    """What takes MIM's place in the paper's ablation: both side by side through one linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(self, spatial: Tensor, motion: Tensor, mask: Tensor) -> Tensor:
        """As `MotionInteraction`; the mask does not matter, as no pair sees another."""
        fused: Tensor = self.linear(torch.cat((spatial, motion), -1))
        return fused

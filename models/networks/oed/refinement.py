"""The temporal module: pairs look at the best pairs of their reference frames (progressively refined module)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.layers import Attention, FeedForward
from models.networks.oed.config import OedConfig


class RefinementLayer(nn.Module):
    """Self-attention, attention to other frames' pairs, feed-forward. The norms are named as in the published file."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.cross_attn = Attention(width, heads)
        self.feed_forward = FeedForward(width, hidden, 0.0)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, pairs: Tensor, others: Tensor) -> Tensor:
        """Refines pairs (..., Q, F) by others (..., K, F)."""
        pairs = self.norm2(pairs + self.self_attn(pairs, pairs, pairs))
        pairs = self.norm1(pairs + self.cross_attn(pairs, others, others))
        refined: Tensor = self.norm3(pairs + self.feed_forward(pairs))
        return refined


class Refinement(nn.Module):
    """Refines the pairs of every frame of a clip by those of its reference frames."""

    def __init__(self, config: OedConfig) -> None:
        super().__init__()
        self.kept_pairs = config.kept_pairs
        self.count, self.distance = config.reference_frames, config.reference_distance
        self.layers = nn.ModuleList(
            RefinementLayer(2 * config.width, config.heads, config.feed_forward) for _ in config.kept_pairs
        )

    def forward(self, pairs: Tensor, ranks: Tensor) -> Tensor:
        """Returns the refined pairs, (B, T, Q, F).

        pairs: (B, T, Q, F), instance and relation features side by side.
        ranks: (B, T, Q), the higher the sooner other frames look at the pair.
        """
        clips, time, slots = ranks.shape
        frames = reference_frames(time, self.count, self.distance, pairs.device)  # (T, R)
        best = ranks[:, frames].flatten(2).topk(self.kept_pairs[0] * self.count, dim=2).indices  # (B, T, K)
        frame = frames.expand(clips, -1, -1).gather(2, best // slots)
        places = (frame * slots + best % slots).flatten(1)  # (B, T * K) among the T * Q pairs of a clip
        others = pairs.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, pairs.shape[-1]))
        others = others.unflatten(1, (time, -1))  # (B, T, K, F), the best first
        refined = pairs
        for layer, kept in zip(self.layers, self.kept_pairs, strict=True):
            refined = layer(refined, others[:, :, : kept * self.count])
        return refined


def reference_frames(time: int, count: int, distance: int, device: torch.device | None = None) -> Tensor:
    """Returns the reference frames of each of `time` frames, (time, count) int64.

    They lie evenly within `distance` of the frame, from the first to the last, as in the official evaluation. Where
    there are fewer, they repeat; a single frame is its own.
    """
    own = torch.arange(time, device=device)[:, None]
    first = (own - distance).clamp(min=0)
    last = torch.minimum(own + distance, torch.full_like(own, time - 1))
    others = last - first  # (T, 1), how many there are without the frame itself
    step = torch.where(others > count, (others - 1) // (count - 1), torch.ones_like(own))
    place = torch.arange(count, device=device) * step % others.clamp(min=1)  # (T, R)
    found = first + place
    return torch.where(others > 0, found + (found >= own).long(), own)

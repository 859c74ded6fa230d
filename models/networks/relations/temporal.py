"""Parts of the relation networks: STTran's encoder of one frame, and decoders over frames and trajectories.

All tensors are dense, and masks say which slots hold pairs. The other slots are computed too, stay finite and influence
no other slot. Their values mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.layers import Attention
from models.networks.relations.trajectories import AnyTrajectories, SortedTrajectories, gather_slots

Aggregation = Literal["latter", "mean"]
"""The result that a frame takes from the two windows that show it.

`latter`: that of the window in which it is the latter frame.
`mean`: the mean of both.
"""


class SpatialEncoder(nn.Module):
    """Attention among the pairs of one frame, in no order (STTran §3.3)."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(SpatialLayer(width, heads, feed_forward, dropout) for _ in range(layers))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Maps pairs (..., P, D) to the same shape; `mask` (..., P) bool is true where a slot holds a pair."""
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return tokens


class SpatialLayer(nn.Module):
    """A post-norm transformer encoder layer without a position code. Parameters have the published names."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feed_forward)
        self.linear2 = nn.Linear(feed_forward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Maps tokens (..., L, D) to the same shape; `mask` (..., L) bool is true where a token is real."""
        tokens = self.norm1(tokens + self.dropout(self.self_attn(tokens, tokens, tokens, mask)))
        fed = self.linear2(self.dropout(self.linear1(tokens).relu()))
        encoded: Tensor = self.norm2(tokens + self.dropout(fed))
        return encoded


class TemporalLayer(nn.Module):
    """STTran's decoder layer: self-attention only, and no norm after the feed-forward part.

    Parameters have the published names, so the only norm is called the third.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.multihead2 = Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feed_forward)
        self.linear2 = nn.Linear(feed_forward, width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        key_mask: Tensor | None = None,
        mask: Tensor | None = None,
        widen: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Maps tokens (..., L, D) to the same shape.

        position: position code that broadcasts to the tokens.
        key_mask: (..., L) bool, true where a token is real.
        mask: (..., L, L) bool, true where the token on the second to last axis may look at the one on the last.
        widen: as for `Attention`; the last axis of `mask` is then as long as what it makes.
        """
        placed = tokens + position
        tokens = self.norm3(tokens + self.dropout(self.multihead2(placed, placed, tokens, key_mask, mask, widen)))
        fed = self.linear2(self.dropout(self.linear1(tokens).relu()))
        decoded: Tensor = tokens + self.dropout(fed)
        return decoded


class WindowDecoder(nn.Module):
    """Attention among the pairs of a window of two frames, which slides over the clip (STTran §3.3).

    Frame 0 takes its result from the first window. A clip of one frame is a window whose second frame is empty.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        layers: int,
        aggregation: Aggregation = "latter",
    ) -> None:
        super().__init__()
        self.aggregation = aggregation
        self.layers = nn.ModuleList(TemporalLayer(width, heads, feed_forward, dropout) for _ in range(layers))
        self.position_embedding = nn.Embedding(2, width)
        nn.init.uniform_(self.position_embedding.weight)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Maps pairs (B, T, P, D) to the same shape; `mask` (B, T, P) bool is true where a slot holds a pair."""
        slots = mask.shape[2]
        # T windows rather than T - 1: an empty frame follows the last one, so that T = 1 has a window too.
        window = torch.cat((tokens, _following(tokens)), 2)  # (B, T, 2P, D)
        window_mask = torch.cat((mask, _following(mask)), 2)  # (B, T, 2P)
        position = self.position_embedding.weight[:, None].expand(-1, slots, -1).flatten(0, 1)  # (2P, D)
        for layer in self.layers:
            window = layer(window, position, window_mask)
        as_earlier, as_later = window[:, :, :slots], window[:, :, slots:]  # of frame j and of frame j + 1
        latter = torch.cat((as_earlier[:, :1], as_later[:, :-1]), 1)  # (B, T, P, D)
        if self.aggregation == "latter":
            return latter
        # The frames at either end are in one window only.
        return (latter + torch.cat((as_earlier[:, :-1], latter[:, -1:]), 1)) / 2


def _following(frames: Tensor) -> Tensor:
    """Returns the values of each frame's successor, zeros after the last: (B, T, ...) to (B, T, ...)."""
    return torch.cat((frames[:, 1:], torch.zeros_like(frames[:, :1])), 1)


REACH = 128
"""Pairs before and after it that a pair of a whole video sees of its trajectory, at least."""


class TrajectoryDecoder(nn.Module):
    """Attention among all pairs of a trajectory, in their order (TR² §III-B).

    In a whole video, the pairs stand trajectory after trajectory in blocks of P, and each sees the blocks around its
    own: all pairs of a trajectory of up to `REACH` pairs, and at least so many before and after it of a longer one. So
    memory grows linearly with the frames.
    """

    frequencies: Tensor

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TemporalLayer(width, heads, feed_forward, dropout) for _ in range(layers))
        self.register_buffer("frequencies", timing_frequencies(width), persistent=False)

    def forward(self, tokens: Tensor, trajectories: AnyTrajectories, slots: int) -> Tensor:
        """Maps tokens (B, T * P, D) to the same shape; `slots` is P."""
        timing = timing_signal(trajectories.position, self.frequencies)
        if isinstance(trajectories, SortedTrajectories):
            return self._in_blocks(tokens, timing, trajectories, slots)
        for layer in self.layers:
            tokens = layer(tokens, timing, mask=trajectories.same)
        return tokens

    def _in_blocks(self, tokens: Tensor, timing: Tensor, trajectories: SortedTrajectories, slots: int) -> Tensor:
        reach = -(-REACH // slots)  # blocks
        order = trajectories.order

        def widen(blocks: Tensor) -> Tensor:
            """Maps blocks (B, T, P, D) to those with their neighbours, (B, T, (2 reach + 1) P, D)."""
            padded = F.pad(blocks, (0, 0, 0, 0, reach, reach))
            near = torch.arange(2 * reach + 1, device=blocks.device)
            places = torch.arange(blocks.shape[1], device=blocks.device)[:, None] + near  # (T, 2 reach + 1)
            return padded[:, places].flatten(2, 3)

        identity = trajectories.identity.gather(1, order).unflatten(1, (-1, slots))  # (B, T, P), 0 without a pair
        seen = widen(identity[..., None].float())[..., 0]  # (B, T, (2 reach + 1) P)
        mask = (identity[..., None] == seen[..., None, :]) & (identity[..., None] > 0)
        blocks = gather_slots(tokens, order).unflatten(1, (-1, slots))
        placed = gather_slots(timing, order).unflatten(1, (-1, slots))
        for layer in self.layers:
            blocks = layer(blocks, placed, mask=mask, widen=widen)
        return gather_slots(blocks.flatten(1, 2), trajectories.rank)


def timing_frequencies(width: int, longest: float = 1e4) -> Tensor:
    """Returns the angular steps of a timing signal, (width / 2,) float32: a geometric series from 1 to 1 / longest."""
    scales = width // 2
    return torch.exp(torch.arange(scales, dtype=torch.float32) * (-math.log(longest) / max(scales - 1, 1)))


def timing_signal(position: Tensor, frequencies: Tensor) -> Tensor:
    """Returns tensor2tensor's position code, (..., D) float32, all sines before all cosines.

    position: (...,).
    frequencies: (D / 2,).
    """
    angles = position[..., None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), -1)

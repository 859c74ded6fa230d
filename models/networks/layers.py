"""Building blocks that the networks share: attention, transformer layers, position codes, small perceptrons."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention over the last two axes, with the parameter layout of `torch.nn.MultiheadAttention`.

    Written out as matrix products: in bfloat16 on CPUs the backward pass of the fused kernel takes several times as
    long as the products themselves, and every ONNX runtime fuses this form by itself.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_mask: Tensor | None = None,
        mask: Tensor | None = None,
        widen: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Returns the attended values, (..., L, D). Both masks may be given.

        query: (..., L, D).
        key: (..., S, D).
        value: (..., S, D).
        key_mask: (..., S) bool, true where a key is real.
        mask: (..., L, S) bool, true where a query may look at a key.
        widen: makes the (..., S, D) that are looked at of projected keys and values, such as from neighbouring blocks.
        """
        query_weight, key_weight, value_weight = self.in_proj_weight.chunk(3)
        query_bias, key_bias, value_bias = self.in_proj_bias.chunk(3)
        keys = nn.functional.linear(key, key_weight, key_bias)
        values = nn.functional.linear(value, value_weight, value_bias)
        if widen is not None:
            keys, values = widen(keys), widen(values)
        mixed = attend(
            split_heads(nn.functional.linear(query, query_weight, query_bias), self.heads),
            split_heads(keys, self.heads),
            split_heads(values, self.heads),
            self.dropout,
            key_mask,
            mask,
        )
        projected: Tensor = self.out_proj(mixed)
        return projected


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Splits the width into heads: (..., L, D) to (..., heads, L, D / heads)."""
    split: Tensor = tokens.unflatten(-1, (heads, tokens.shape[-1] // heads))
    return split.transpose(-2, -3)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: nn.Dropout,
    key_mask: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Computes softmax attention on split heads and merges the heads: returns (..., L, h * d).

    query: (..., h, L, d).
    key: (..., h, S, d).
    value: (..., h, S, d).
    key_mask: as for `Attention`.
    mask: as for `Attention`.
    """
    logits = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)  # (..., h, L, S)
    # A finite number, so that a row without keys stays finite.
    if key_mask is not None:
        logits = logits.masked_fill(~key_mask[..., None, None, :], -1e4)
    if mask is not None:
        logits = logits.masked_fill(~mask[..., None, :, :], -1e4)
    mixed: Tensor = dropout(logits.softmax(-1)) @ value
    return mixed.transpose(-2, -3).flatten(-2)


class FeedForward(nn.Module):
    """Linear, ReLU, linear, as in the original transformer."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (..., D) to (..., D)."""
        return self.linear2(self.dropout(self.linear1(tokens).relu()))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """A post-norm transformer encoder layer with the position code added to queries and keys (DETR)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, position: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Maps tokens (..., L, D) to the same shape; the position code broadcasts to it.

        key_mask: (..., L) bool, true where a token is real; None where all are.
        """
        placed = tokens + position
        tokens = self.norm1(tokens + self.dropout(self.self_attn(placed, placed, tokens, key_mask)))
        return self.norm2(tokens + self.dropout(self.feed_forward(tokens)))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """A post-norm transformer decoder layer: self-attention, cross-attention, feed-forward (DETR; ARN eq 2 and 5)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.multihead_attn = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Tensor, query_position: Tensor, keys: Tensor, values: Tensor, extra: Tensor | None = None
    ) -> Tensor:
        """Returns the refined queries, (B, N, D).

        queries: (B, N, D).
        query_position: broadcasts to the queries.
        keys: (B, S, D).
        values: (B, S, D).
        extra: (B, N, D), features sampled where the query looks. They are added to the cross-attention's output.
        """
        placed = queries + query_position
        queries = self.norm1(queries + self.dropout(self.self_attn(placed, placed, queries)))
        looked = self.multihead_attn(queries + query_position, keys, values)
        if extra is not None:
            looked = looked + extra
        queries = self.norm2(queries + self.dropout(looked))
        return self.norm3(queries + self.dropout(self.feed_forward(queries)))  # type: ignore[no-any-return]


class Perceptron(nn.Module):
    """A stack of linear layers with ReLU between them (DETR's `MLP`)."""

    def __init__(self, width_in: int, width_hidden: int, width_out: int, depth: int) -> None:
        super().__init__()
        widths = [width_in, *[width_hidden] * (depth - 1), width_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (..., width_in) to (..., width_out)."""
        for layer in self.layers[:-1]:
            tokens = layer(tokens).relu()
        return self.layers[-1](tokens)  # type: ignore[no-any-return]


def sine_code(values: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """Returns the sine and cosine code of numbers in [0, 1]: (...,) to (..., width)."""
    steps = torch.arange(width // 2, dtype=torch.float32, device=values.device)
    angles = values[..., None] * (2 * math.pi) / temperature ** (2 * steps / width)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)


def sine_position(height: int, width: int, channels: int) -> Tensor:
    """Returns DETR's position code of a feature map, rows first, then columns: (height * width, channels)."""
    rows = (torch.arange(1, height + 1, dtype=torch.float32) / (height + 1e-6))[:, None].expand(height, width)
    columns = (torch.arange(1, width + 1, dtype=torch.float32) / (width + 1e-6))[None, :].expand(height, width)
    return torch.cat((sine_code(rows, channels // 2), sine_code(columns, channels // 2)), -1).flatten(0, 1)

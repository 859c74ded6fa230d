"""ARN's predicate decoder: a branch per group, Predicate Association Parsing and Hierarchical Attention (eq 3-13)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from models.graph.vocabulary import GroupName
from models.networks.arn.config import ArnConfig, WeightMapping
from models.networks.layers import Attention, DecoderLayer, FeedForward, attend, split_heads


class TemporalAttention(nn.Module):
    """Self-attention over the frames of a clip, separately at each place of the feature map (eq 3)."""

    def __init__(self, config: ArnConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads, config.dropout)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor, frame_code: Tensor) -> Tensor:
        """Turns tokens (B, T, S, D) into F_vt of the same shape; `frame_code` is p_t (T, D)."""
        across = tokens.transpose(1, 2)  # (B, S, T, D)
        placed = across + frame_code
        mixed = self.norm(across + self.attention(placed, placed, across))
        return mixed.transpose(1, 2)  # type: ignore[no-any-return]


class ComplementaryAttention(nn.Module):
    """First level of Hierarchical Attention, from cues of the other groups to the clip (eq 8, 9, 11).

    With the conditional weight mapping each head holds an equal part of every other group. So the attention weights
    are a sum of products, Q_S K + Q_C K, and no group drowns the others.

    others: number of groups beside the branch's own; two in the paper.
    """

    def __init__(self, config: ArnConfig, others: int) -> None:
        super().__init__()
        width = config.width
        self.mapping: WeightMapping = config.weight_mapping
        self.heads = config.heads
        if self.mapping != "add":
            self.reduce = nn.ModuleList(nn.Linear(width, width // others) for _ in range(others))
        if self.mapping == "nonlinear":
            self.mix = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.query_position = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)

    def cues(self, *others: Tensor) -> Tensor:
        """Returns F^comp (B, L, D) of the features (B, L, D) of each other group."""
        if self.mapping == "add":
            return sum(others[1:], start=others[0])
        reduced = [reduce(other) for reduce, other in zip(self.reduce, others, strict=True)]
        parts = torch.stack(reduced, -2)  # (B, L, n, D / n)
        if self.mapping == "nonlinear":
            return self.mix(parts.flatten(-2))  # type: ignore[no-any-return]
        # Interleave so that every head holds an equal part of each group.
        interleaved: Tensor = parts.unflatten(-1, (self.heads, -1)).transpose(-2, -3).flatten(-3)
        return interleaved

    def forward(self, cues: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Returns F_comp (eq 11), (B, L, D).

        cues: (B, L, D).
        position: (B, L, D), the query position e^o.
        keys: (B, S, D), F_vt + p_t.
        values: (B, S, D), F_vt.
        """
        query = split_heads(cues + self.query_position(position), self.heads)
        key, value = split_heads(self.key(keys), self.heads), split_heads(self.value(values), self.heads)
        return self.out(attend(query, key, value, self.dropout))  # type: ignore[no-any-return]


class AssociationLayer(nn.Module):
    """Predicate Association Parsing, with Hierarchical Attention where that is on, for one of `groups` branches."""

    def __init__(self, config: ArnConfig, groups: int) -> None:
        super().__init__()
        width = config.width
        self.mapping: WeightMapping = config.weight_mapping
        self.hierarchical = config.hierarchical_attention
        self.entities = nn.Linear(2 * width, width)
        if self.mapping != "add":
            self.fuse = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))
        self.fuse_norm = nn.LayerNorm(width)
        if self.hierarchical:
            self.complementary = ComplementaryAttention(config, groups - 1)
            self.associate = Attention(width, config.heads, config.dropout)
            self.linear = nn.Linear(width, width)
        else:
            self.look = Attention(width, config.heads, config.dropout)
        self.norm1 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feed_forward, config.dropout)
        self.norm2 = nn.LayerNorm(width)

    def forward(
        self, current: Tensor, others: tuple[Tensor, ...], entities: Tensor, branch_position: Tensor, position:
        Tensor, keys: Tensor, values: Tensor, frames: int,
    ) -> Tensor:  # fmt: skip
        """Refines the features of one branch. Returns (B, T * N, D).

        current: (B, T * N, D), the branch's features.
        others: (B, T * N, D) each, the other branches' features.
        entities: (B, T * N, 2D), the paired entity features F^E.
        branch_position: (D,), the predicate association embedding e^pred.
        position: (B, T * N, D), e^o.
        keys: (B, T * S, D).
        values: (B, T * S, D).
        frames: T.
        """
        entity = self.entities(entities)
        if self.mapping == "add":
            fused = self.fuse_norm(current + branch_position + entity)
        else:
            fused = self.fuse_norm(current + self.fuse(torch.cat((current + branch_position, entity), -1)))  # eq 10
        if self.hierarchical:
            cues = self.complementary.cues(*others)
            supplement = self.complementary(cues, position, keys, values)  # eq 11
            # The second level relates the pairs of one frame to each other, so time leaves the sequence axis.
            by_frame = [tokens.unflatten(1, (frames, -1)) for tokens in (fused, cues, supplement)]  # (B, T, N, D) x 3
            associated = self.associate(*by_frame).flatten(1, 2)  # eq 12
            mixed = fused + self.linear(associated)  # eq 13, added to the original input
        else:
            mixed = fused + self.look(fused + position, keys, values)
        mixed = self.norm1(mixed)
        return self.norm2(mixed + self.feed_forward(mixed))  # type: ignore[no-any-return]


class Branch(nn.Module):
    """Queries, position embedding and plain decoder layers of one predicate group (eq 4-5)."""

    def __init__(self, config: ArnConfig, plain_layers: int) -> None:
        super().__init__()
        slots = 1 if config.dense_proposals else config.queries
        self.query = nn.Parameter(torch.zeros(slots, config.width))
        self.position = nn.Parameter(torch.randn(config.width))
        self.layers = nn.ModuleList(
            DecoderLayer(config.width, config.heads, config.feed_forward, config.dropout) for _ in range(plain_layers)
        )

    def start(self, pairs: Tensor, pair_features: Tensor | None) -> Tensor:
        """Returns Q (B, T, N, D): the learned queries, plus the pairs' sampled features where there are any."""
        learned = self.query.expand_as(pairs)
        return learned if pair_features is None else learned + pair_features

    def decode(self, index: int, queries: Tensor, pairs: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Runs layer `index`: attention among the pairs of a frame, and from them to the tokens of the whole clip.

        Returns (B, T, N, D). The clip's tokens broadcast over T.

        queries: (B, T, N, D).
        pairs: (B, T, N, D), e^o of the queries.
        keys: (B, T * S, D).
        values: (B, T * S, D).
        """
        position = pairs + self.position  # eq 4: e~ = e^o + e^pred
        decoded: Tensor = self.layers[index](queries, position, keys[:, None], values[:, None])
        return decoded


class PredicateDecoder(nn.Module):
    """Decodes each group's predicates from the clip's tokens in a branch of its own.

    With Predicate Association Parsing, the last layer relates the branches to each other.
    """

    def __init__(self, config: ArnConfig, groups: tuple[GroupName, ...]) -> None:
        super().__init__()
        width = config.width
        self.temporal = TemporalAttention(config) if config.temporal_attention else None
        self.frame_code = nn.Parameter(torch.randn(config.clip_length, width) * 0.02)
        plain = config.predicate_layers - (1 if config.predicate_association else 0)
        self.plain_layers = plain
        self.branches = nn.ModuleDict({group: Branch(config, plain) for group in groups})
        self.association = (
            nn.ModuleDict({group: AssociationLayer(config, len(groups)) for group in groups})
            if config.predicate_association
            else None
        )

    def forward(
        self, memory: Tensor, place: Tensor, entities: Tensor, object_position: Tensor, pair_features: Tensor | None
    ) -> list[dict[GroupName, Tensor]]:
        """Returns the predicate features after each layer, {group: (B, T, N, D)}.

        memory: (B, T, S, D), the encoder's tokens.
        place: (S, D), position code of the tokens.
        entities: (B, T, N, 2D), the paired entity features F^E.
        object_position: (B, T, N, D), e^o.
        pair_features: (B, T, N, D), added to the learned queries; None for nothing.
        """
        frames, slots = entities.shape[1], entities.shape[2]
        frame_code = self.frame_code[:frames]  # (T, D)
        if self.temporal is not None:
            memory = self.temporal(memory, frame_code)
        values = memory.flatten(1, 2)  # (B, T * S, D)
        keys = (memory + place + frame_code[:, None]).flatten(1, 2)
        # A query carries its own frame's code, so that it can tell its frame's tokens from the others'.
        anchored = object_position + frame_code[:, None]  # (B, T, N, D)
        position = anchored.flatten(1, 2)
        branches = {group: cast(Branch, branch) for group, branch in self.branches.items()}
        features = {group: branch.start(anchored, pair_features) for group, branch in branches.items()}
        layers: list[dict[GroupName, Tensor]] = []
        for index in range(self.plain_layers):
            features = {
                group: branch.decode(index, features[group], anchored, keys, values)
                for group, branch in branches.items()
            }
            layers.append(features)
        if self.association is not None:
            flat = {group: tokens.flatten(1, 2) for group, tokens in features.items()}  # (B, T * N, D)
            associated: dict[GroupName, Tensor] = {}
            for group in branches:
                tokens = self.association[group](
                    flat[group],
                    tuple(flat[other] for other in branches if other != group),
                    entities.flatten(1, 2),
                    branches[group].position,
                    position,
                    keys,
                    values,
                    frames,
                )
                associated[group] = tokens.unflatten(1, (frames, slots))
            layers.append(associated)
        return layers

"""Predicate Association Parsing and Hierarchical Attention (eq 8-13)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.networks.arn.predicate_decoder import AssociationLayer, ComplementaryAttention
from models.networks.layers import split_heads
from tests.support.networks import tiny

WIDTH, HEADS, FRAMES, PAIRS, PLACES = 32, 4, 2, 3, 6


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def first() -> Tensor:
    return random(1, FRAMES * PAIRS, WIDTH, seed=1)


@pytest.fixture
def second() -> Tensor:
    return random(1, FRAMES * PAIRS, WIDTH, seed=2)


@pytest.fixture
def keys() -> Tensor:
    return random(1, FRAMES * PLACES, WIDTH, seed=3)


def test_conditional_attention_logits_are_the_sum_of_both_groups_products(
    first: Tensor, second: Tensor, keys: Tensor
) -> None:
    attention = ComplementaryAttention(tiny(width=WIDTH, heads=HEADS), 2)
    half = WIDTH // HEADS // 2
    key = split_heads(attention.key(keys), HEADS)  # (1, heads, S, 2 * half)
    logits = split_heads(attention.cues(first, second), HEADS) @ key.transpose(-1, -2)
    # Every head sees half of its channels from each group: Q^T K = Q_S^T K + Q_C^T K.
    halves = key[..., :half], key[..., half:]
    parts = [
        split_heads(reduce(group), HEADS) @ own.transpose(-1, -2)
        for reduce, group, own in zip(attention.reduce, (first, second), halves, strict=True)
    ]
    torch.testing.assert_close(logits, parts[0] + parts[1])


def test_neither_group_can_move_the_other_groups_half(first: Tensor, second: Tensor) -> None:
    attention = ComplementaryAttention(tiny(width=WIDTH, heads=HEADS), 2)
    moved = attention.cues(first, second + 1) - attention.cues(first, second)
    by_head = split_heads(moved, HEADS).abs().amax((0, 1, 2))  # (channels of a head,)
    half = WIDTH // HEADS // 2
    assert by_head[:half].max() == 0
    assert by_head[half:].min() > 0


def test_added_cues_are_the_plain_sum(first: Tensor, second: Tensor) -> None:
    attention = ComplementaryAttention(tiny(width=WIDTH, weight_mapping="add"), 2)
    torch.testing.assert_close(attention.cues(first, second), first + second)


def test_nonlinear_cues_mix_the_groups(first: Tensor, second: Tensor) -> None:
    attention = ComplementaryAttention(tiny(width=WIDTH, weight_mapping="nonlinear"), 2)
    moved = attention.cues(first, second + 1) - attention.cues(first, second)
    assert (moved.abs().amax((0, 1)) > 0).all()


def run(layer: AssociationLayer, first: Tensor, second: Tensor, keys: Tensor, entities: Tensor | None = None) -> Tensor:
    current = random(1, FRAMES * PAIRS, WIDTH, seed=4)
    if entities is None:
        entities = random(1, FRAMES * PAIRS, 2 * WIDTH, seed=5)
    position = random(1, FRAMES * PAIRS, WIDTH, seed=6)
    result: Tensor = layer(current, (first, second), entities, torch.ones(WIDTH), position, keys, keys, FRAMES)
    return result


@pytest.mark.parametrize("hierarchical", [True, False])
def test_the_other_branches_matter_through_hierarchical_attention_only(
    first: Tensor, second: Tensor, keys: Tensor, hierarchical: bool
) -> None:
    torch.manual_seed(0)
    layer = AssociationLayer(tiny(width=WIDTH, hierarchical_attention=hierarchical), 3)
    difference = (run(layer, first, second + 1, keys) - run(layer, first, second, keys)).abs().max()
    assert (difference > 1e-3) == hierarchical


@pytest.mark.parametrize("mapping", ["conditional", "add", "nonlinear"])
def test_entities_and_the_clip_reach_the_predicates(first: Tensor, second: Tensor, keys: Tensor, mapping: str) -> None:
    torch.manual_seed(0)
    layer = AssociationLayer(tiny(width=WIDTH, weight_mapping=mapping), 3)
    before = run(layer, first, second, keys)
    assert before.shape == (1, FRAMES * PAIRS, WIDTH)
    other_clip = run(layer, first, second, keys + random(*keys.shape, seed=8))
    other_entities = run(layer, first, second, keys, random(1, FRAMES * PAIRS, 2 * WIDTH, seed=9))
    assert (other_clip - before).abs().max() > 1e-3
    assert (other_entities - before).abs().max() > 1e-3


def test_the_second_level_relates_the_pairs_of_one_frame_only(first: Tensor, second: Tensor, keys: Tensor) -> None:
    torch.manual_seed(0)
    layer = AssociationLayer(tiny(width=WIDTH), 3)
    moved = second.clone()
    moved[:, PAIRS] += 1  # a pair of the second frame
    difference = (run(layer, first, moved, keys) - run(layer, first, second, keys)).abs().amax((0, 2))
    assert difference[:PAIRS].max() == 0
    assert difference[PAIRS:].min() > 0

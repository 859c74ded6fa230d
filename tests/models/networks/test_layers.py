"""The layers against torch's own, and position codes against DETR's formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.networks.layers import Attention, DecoderLayer, EncoderLayer, Perceptron, sine_code, sine_position

WIDTH, HEADS, HIDDEN = 16, 4, 24


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scramble(module: nn.Module) -> None:
    """Biases and norms start at 0 and 1, where a swap of two of them would not show."""
    for number, parameter in enumerate(module.parameters()):
        parameter.data = random(*parameter.shape, seed=number) * 0.3


def detr_names(module: nn.Module) -> dict[str, Tensor]:
    """Weights under the names that torch's layers and DETR's checkpoints use."""
    return {name.replace("feed_forward.", ""): value for name, value in module.state_dict().items()}


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_torchs_with_the_same_weights(masked: bool) -> None:
    ours = Attention(WIDTH, HEADS)
    scramble(ours)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = random(2, 5, WIDTH), random(2, 7, WIDTH, seed=1), random(2, 7, WIDTH, seed=2)
    real = torch.tensor([[True] * 7, [True] * 3 + [False] * 4]) if masked else None
    wanted, _ = theirs(query, key, value, key_padding_mask=None if real is None else ~real)
    torch.testing.assert_close(ours(query, key, value, real), wanted)


def test_masked_keys_have_no_influence_and_a_row_without_keys_stays_finite() -> None:
    attention = Attention(WIDTH, HEADS)
    scramble(attention)
    query, key = random(1, 3, WIDTH), random(1, 4, WIDTH, seed=1)
    mask = torch.tensor([[True, True, False, False]])
    changed = torch.cat((key[:, :2], key[:, 2:] + 5), 1)
    torch.testing.assert_close(attention(query, changed, changed, mask), attention(query, key, key, mask))
    assert torch.isfinite(attention(query, key, key, torch.zeros(1, 4, dtype=torch.bool))).all()


def test_attention_broadcasts_keys_over_leading_axes() -> None:
    attention = Attention(WIDTH, HEADS)
    scramble(attention)
    query, key = random(2, 3, 5, WIDTH), random(2, 1, 7, WIDTH, seed=1)
    looked = attention(query, key, key)
    torch.testing.assert_close(looked[1, 2], attention(query[1, 2], key[1, 0], key[1, 0]))


def test_encoder_layer_equals_torchs_where_positions_are_zero() -> None:
    ours = EncoderLayer(WIDTH, HEADS, HIDDEN, 0.1).eval()
    scramble(ours)
    theirs = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True).eval()
    theirs.load_state_dict(detr_names(ours))
    tokens = random(2, 6, WIDTH)
    torch.testing.assert_close(ours(tokens, torch.zeros(6, WIDTH)), theirs(tokens), atol=1e-5, rtol=1e-5)


def test_encoder_layer_puts_positions_on_queries_and_keys_but_not_on_values() -> None:
    layer = EncoderLayer(WIDTH, HEADS, HIDDEN, 0.0)
    scramble(layer)
    tokens, place = random(1, 6, WIDTH), random(6, WIDTH, seed=9)
    mixed = layer.norm1(tokens + layer.self_attn(tokens + place, tokens + place, tokens))
    torch.testing.assert_close(layer(tokens, place), layer.norm2(mixed + layer.feed_forward(mixed)))


def test_decoder_layer_equals_torchs_where_positions_are_zero() -> None:
    ours = DecoderLayer(WIDTH, HEADS, HIDDEN, 0.1).eval()
    scramble(ours)
    theirs = nn.TransformerDecoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True).eval()
    theirs.load_state_dict(detr_names(ours))
    queries, memory = random(2, 5, WIDTH), random(2, 9, WIDTH, seed=1)
    ours_out = ours(queries, torch.zeros(5, WIDTH), memory, memory)
    torch.testing.assert_close(ours_out, theirs(queries, memory), atol=1e-5, rtol=1e-5)


def test_decoder_layer_adds_sampled_features_to_what_the_queries_looked_at() -> None:
    layer = DecoderLayer(WIDTH, HEADS, HIDDEN, 0.0)
    scramble(layer)
    queries, memory, extra = random(1, 5, WIDTH), random(1, 9, WIDTH, seed=1), random(1, 5, WIDTH, seed=2)
    nothing = torch.zeros(5, WIDTH)
    first = layer.norm1(queries + layer.self_attn(queries, queries, queries))
    second = layer.norm2(first + layer.multihead_attn(first, memory, memory) + extra)
    wanted = layer.norm3(second + layer.feed_forward(second))
    torch.testing.assert_close(layer(queries, nothing, memory, memory, extra), wanted)


def test_perceptron_has_a_relu_between_its_layers_only() -> None:
    perceptron = Perceptron(3, 5, 2, 3)
    tokens = random(4, 3)
    first, second, last = perceptron.layers
    torch.testing.assert_close(perceptron(tokens), last(second(first(tokens).relu()).relu()))


def test_sine_code_equals_a_case_by_hand() -> None:
    code = sine_code(torch.tensor(0.25), 4)
    slow = math.pi / 2 / 100  # 10000 ** (2 / 4)
    assert code.tolist() == pytest.approx([1.0, 0.0, math.sin(slow), math.cos(slow)], abs=1e-6)


def test_position_code_equals_detrs() -> None:
    height, width, channels = 3, 5, 16
    half = channels // 2
    wanted = torch.zeros(height, width, channels)
    for row in range(height):
        for column in range(width):
            # models/position_encoding.py of DETR: cumulative sums from 1, normalised to 2 pi, sines at even channels.
            for offset, number, last in ((0, row + 1, height), (half, column + 1, width)):
                angle = number / (last + 1e-6) * 2 * math.pi
                for channel in range(half):
                    turn = angle / 10000 ** (2 * (channel // 2) / half)
                    wanted[row, column, offset + channel] = math.sin(turn) if channel % 2 == 0 else math.cos(turn)
    torch.testing.assert_close(sine_position(height, width, channels), wanted.flatten(0, 1))

"""The shared encoder and decoders against torch's own layers and against loops over lists of real pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.networks.relations.temporal import (
    Aggregation,
    SpatialEncoder,
    TemporalLayer,
    TrajectoryDecoder,
    WindowDecoder,
    timing_frequencies,
    timing_signal,
)
from models.networks.relations.trajectories import follow
from tests.models.networks.relations.samples import lively, pairs_with

WIDTH, HEADS, HIDDEN = 16, 4, 24
SIZES = (WIDTH, HEADS, HIDDEN, 0.1)


def clip(counts: list[int], slots: int = 4) -> tuple[Tensor, Tensor]:
    """One clip whose frames hold so many pairs, in random slots; the other slots hold leftovers."""
    torch.manual_seed(1)
    mask = torch.zeros(1, len(counts), slots, dtype=torch.bool)
    for frame, count in enumerate(counts):
        mask[0, frame, torch.randperm(slots)[:count]] = True
    return torch.randn(1, len(counts), slots, WIDTH), mask


def decode(layers: nn.ModuleList, tokens: Tensor, position: Tensor) -> Tensor:
    """Unpadded (L, D) through temporal layers, written with torch's own attention."""
    for layer in layers:
        attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
        attention.load_state_dict(layer.multihead2.state_dict())
        placed = (tokens + position)[None]
        tokens = layer.norm3(tokens + attention(placed, placed, tokens[None])[0][0])
        tokens = tokens + layer.linear2(layer.linear1(tokens).relu())
    return tokens


def test_spatial_encoder_equals_torchs_with_the_same_weights_by_the_same_names() -> None:
    ours = lively(SpatialEncoder(*SIZES, layers=2))
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True)
    theirs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    theirs.load_state_dict(ours.state_dict())
    tokens, mask = clip([2, 4, 1])
    wanted = theirs(tokens[0], src_key_padding_mask=~mask[0])
    torch.testing.assert_close(ours(tokens, mask)[mask], wanted[mask[0]], atol=1e-5, rtol=1e-5)


def test_temporal_layer_puts_positions_on_queries_and_keys_and_has_no_last_norm() -> None:
    layer = lively(TemporalLayer(*SIZES))
    tokens, position = torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    wanted = decode(nn.ModuleList([layer]), tokens, position)
    torch.testing.assert_close(layer(tokens, position), wanted, atol=1e-5, rtol=1e-5)


def windows_by_hand(decoder: WindowDecoder, tokens: Tensor, mask: Tensor) -> list[Tensor]:
    """What each frame of one clip keeps, from windows over lists of real pairs."""
    frames = [tokens[0, frame][mask[0, frame]] for frame in range(tokens.shape[1])]
    early, late = decoder.position_embedding.weight
    views: list[list[Tensor]] = [[] for _ in frames]
    if len(frames) == 1:
        return [decode(decoder.layers, frames[0], early.expand_as(frames[0]))]
    for number in range(len(frames) - 1):
        first, second = frames[number], frames[number + 1]
        position = torch.cat((early.expand_as(first), late.expand_as(second)))
        decoded = decode(decoder.layers, torch.cat((first, second)), position)
        views[number].append(decoded[: len(first)])
        views[number + 1].append(decoded[len(first) :])
    if decoder.aggregation == "mean":
        return [torch.stack(seen).mean(0) for seen in views]
    return [seen[0] for seen in views]


@pytest.mark.parametrize("aggregation", ["latter", "mean"])
@pytest.mark.parametrize("counts", [[3], [2, 3], [1, 4, 2, 3, 2], [2, 0, 3], [0, 2, 1], [3, 1, 0], [2, 0, 0, 1]])
def test_window_decoder_equals_a_loop_over_windows(counts: list[int], aggregation: Aggregation) -> None:
    decoder = lively(WindowDecoder(*SIZES, layers=3, aggregation=aggregation))
    tokens, mask = clip(counts)
    decoded = decoder(tokens, mask)
    assert decoded.shape == tokens.shape
    assert torch.isfinite(decoded).all()
    for frame, wanted in enumerate(windows_by_hand(decoder, tokens, mask)):
        torch.testing.assert_close(decoded[0, frame][mask[0, frame]], wanted, atol=1e-5, rtol=1e-5)


def test_a_batch_of_windows_equals_its_clips_alone() -> None:
    decoder = lively(WindowDecoder(*SIZES, layers=2))
    (first, first_mask), (second, second_mask) = clip([1, 3, 2]), clip([4, 0, 1])
    both = decoder(torch.cat((first, second + 1)), torch.cat((first_mask, second_mask)))
    torch.testing.assert_close(both[1:][second_mask], decoder(second + 1, second_mask)[second_mask])


def test_frame_embeddings_start_between_zero_and_one() -> None:
    embedding = WindowDecoder(*SIZES, layers=1).position_embedding.weight
    assert embedding.shape == (2, WIDTH)
    assert embedding.min() >= 0
    assert embedding.max() <= 1
    assert embedding.std() > 0.2


def test_the_timing_signal_equals_a_case_by_hand() -> None:
    # Three time scales: 1, 100, 10000.
    signal = timing_signal(torch.tensor([0, 5]), timing_frequencies(6))
    late = [math.sin(5), math.sin(0.05), math.sin(0.0005), math.cos(5), math.cos(0.05), math.cos(0.0005)]
    torch.testing.assert_close(signal, torch.tensor([[0.0, 0, 0, 1, 1, 1], late]))
    assert timing_frequencies(2).tolist() == [1.0]


@pytest.mark.parametrize("counts", [[3], [2, 4, 1], [0, 3, 0, 2], [0, 0]])
def test_trajectory_decoder_equals_a_loop_over_classes(counts: list[int]) -> None:
    decoder = lively(TrajectoryDecoder(*SIZES, layers=3))
    tokens, mask = clip(counts)
    labels = torch.randint(1, 4, mask.shape, generator=torch.Generator().manual_seed(2))
    trajectories = follow(pairs_with(labels, mask))
    flat, real, label = tokens.flatten(1, 2), mask.flatten(), labels.flatten()
    decoded = decoder(flat, trajectories, mask.shape[2])
    assert torch.isfinite(decoded).all()
    for number in range(1, 4):
        chosen = real & (label == number)
        sequence = flat[0, chosen]
        timing = timing_signal(torch.arange(len(sequence)), timing_frequencies(WIDTH))
        wanted = decode(decoder.layers, sequence, timing)
        torch.testing.assert_close(decoded[0, chosen], wanted, atol=1e-5, rtol=1e-5)

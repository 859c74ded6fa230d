"""Batches are cut and padded to the sizes that a GPU is prepared for."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.engines import EngineOptions
from models.engines.batches import LONGEST_VIDEO, Piece, buckets_of, engine_file, exact_pieces, pieces, profiles
from models.graph.bundle import Bundle


@pytest.mark.parametrize(("most", "buckets"), [(1, (1,)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))])
def test_buckets_are_powers_of_two_and_the_largest_batch(most: int, buckets: tuple[int, ...]) -> None:
    assert EngineOptions(max_batch=most).buckets == buckets


def test_a_batch_is_cut_into_full_pieces_and_a_rest_with_least_padding() -> None:
    assert pieces(9, (1, 2, 4)) == [Piece(0, 4, 4), Piece(4, 8, 4), Piece(8, 9, 1)]
    assert pieces(3, (1, 2, 4)) == [Piece(0, 3, 4)]


def test_a_batch_may_be_cut_so_that_nothing_is_padded() -> None:
    assert exact_pieces(11, (1, 2, 4)) == [Piece(0, 4, 4), Piece(4, 8, 4), Piece(8, 10, 2), Piece(10, 11, 1)]


def test_profiles_hold_every_input_up_to_a_full_clip_or_the_longest_video(video_bundle: Path) -> None:
    stages = Bundle.load(video_bundle).manifest.stages
    (frames,) = profiles(stages[0], 4, (1, 2, 8)).values()
    assert (frames.least, frames.likeliest, frames.largest) == ((1, 1, 32, 32, 3), (8, 4, 32, 32, 3), (8, 4, 32, 32, 3))
    whole = profiles(stages[3], 4, (1, 2, 8))
    assert {name: profile.largest for name, profile in whole.items()} == {
        "timestamps": (1, LONGEST_VIDEO),
        "brightness": (1, LONGEST_VIDEO, 1, 1),
    }
    assert buckets_of(stages[3], (1, 2, 8)) == (1,)


def test_an_engine_files_name_holds_everything_it_depends_on(tiny_bundle: Path) -> None:
    manifest = Bundle.load(tiny_bundle).manifest
    name = engine_file(manifest, manifest.stages[1], "nvidia-l4", "10.9.0")
    assert name == f"pairs.{manifest.sha256['pairs.onnx'][:12]}.fp32.nvidia-l4.tensorrt-10.9.0.engine"

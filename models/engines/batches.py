"""Batch sizes, input shapes and file names of engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.graph.bundle import Manifest, Stage, Tensor

LONGEST_VIDEO = 4096
"""Frames of the longest video that TensorRT prepares for: over half an hour at two frames a second."""


@dataclass(frozen=True)
class Piece:
    """A part of a batch that runs at once: items `start` to `stop` (excluded), padded to `size`."""

    start: int
    stop: int
    size: int


def pieces(batch: int, buckets: Sequence[int]) -> list[Piece]:
    """Cuts a batch into pieces of the largest bucket; the rest takes the smallest bucket that holds it."""
    largest = buckets[-1]
    starts = range(0, batch, largest)
    return [_piece(start, min(start + largest, batch), buckets) for start in starts]


def _piece(start: int, stop: int, buckets: Sequence[int]) -> Piece:
    return Piece(start, stop, next(size for size in buckets if size >= stop - start))


def exact_pieces(batch: int, buckets: Sequence[int]) -> list[Piece]:
    """Cuts a batch into pieces of bucket sizes without padding, the largest first; 1 must be a bucket."""
    cut: list[Piece] = []
    start = 0
    while start < batch:
        size = max(size for size in buckets if size <= batch - start)
        cut.append(Piece(start, start + size, size))
        start += size
    return cut


def buckets_of(stage: Stage, buckets: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the batch sizes of a stage; whole videos run one by one."""
    return (1,) if stage.span == "video" else buckets


@dataclass(frozen=True)
class Profile:
    """The least, likeliest and largest shape of one input, for TensorRT."""

    least: tuple[int, ...]
    likeliest: tuple[int, ...]
    largest: tuple[int, ...]


def profiles(stage: Stage, clip_length: int, buckets: tuple[int, ...]) -> dict[str, Profile]:
    """Returns the profile of every input of a stage by name: all buckets, and all times up to a clip or video."""
    most = buckets_of(stage, buckets)[-1]
    time = LONGEST_VIDEO if stage.span == "video" else clip_length
    return {
        tensor.name: Profile(shape_of(tensor, 1, 1), shape_of(tensor, most, clip_length), shape_of(tensor, most, time))
        for tensor in stage.inputs
    }


def shape_of(tensor: Tensor, batch: int, time: int) -> tuple[int, ...]:
    """Returns a tensor's shape with its symbolic axes filled in."""
    return (batch, time, *(int(length) for length in tensor.shape[2:]))


def engine_file(manifest: Manifest, stage: Stage, gpu: str, version: str) -> str:
    """Returns the file name of an engine, such as `detector.f7e639279b74.fp16.nvidia-h200.tensorrt-10.13.3.engine`.

    An engine runs on no other GPU and with no other version; the digest ties it to its graph.

    gpu: `Gpu.file_name`.
    version: `tensorrt.__version__`.
    """
    digest = manifest.sha256[stage.file][:12]
    return f"{stage.name}.{digest}.{manifest.precision}.{gpu}.tensorrt-{version}.engine"

"""Runs the stages of a model in order, whatever computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.engines.engine import Arrays, Tensors
from models.graph.bundle import FRAMES, PICTURE_SIZE, TIMESTAMPS, Span


class RunnableStage(Protocol):
    """One stage of a model: an engine's, a network's, or any function's."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the arrays that the stage takes."""
        ...

    @property
    def span(self) -> Span:
        """The part of a video that the stage must see at once."""
        ...

    def run(self, arrays: Arrays, /) -> Arrays:
        """Returns the stage's outputs by name from its inputs by name, (B, T, …) each; other names are ignored."""
        ...


@dataclass(frozen=True)
class FunctionStage:
    """A stage that a function computes; see `RunnableStage`."""

    inputs: tuple[str, ...]
    span: Span
    run: Callable[[Arrays], Arrays]


def bundle_inputs(
    frames: NDArray[np.uint8], timestamps: NDArray[np.floating], picture_size: tuple[float, float] | None = None
) -> Tensors:
    """Returns what the first stages of a bundle take, by name.

    frames: (B, T, H, W, 3) or (T, H, W, 3) uint8 RGB.
    timestamps: (B, T) or (T,) seconds.
    picture_size: width and height of a whole frame in pixels of the displayed video; None takes the frames' own.
    """
    time = frames.shape[:-3]
    size = picture_size or (frames.shape[-2], frames.shape[-3])
    return {
        FRAMES: frames,
        TIMESTAMPS: np.broadcast_to(timestamps.astype(np.float32), time).copy(),
        PICTURE_SIZE: np.broadcast_to(np.array(size, np.float32), (*time, 2)).copy(),
    }


def run_stages(
    stages: Iterable[RunnableStage],
    arrays: Arrays,
    *,
    clip_length: int | None = None,
    frames_at_once: int | None = None,
) -> Tensors:
    """Runs stages in order. Returns the given arrays and all outputs by name, (B, T, …) each.

    With `clip_length`, the span of each stage decides how the time axis is cut. `frame`: every frame by itself,
    (B * T, 1, …). `clip`: clips of `clip_length` frames, which share a batch, then the remaining frames as shorter
    clips. `video`: all frames at once. Without `clip_length`, every stage takes all frames at once.

    frames_at_once: most frames that a stage of span `frame` takes at once; None takes all.
    """
    known = dict(arrays)
    for stage in stages:
        inputs = {name: known[name] for name in stage.inputs}
        known.update(stage.run(inputs) if clip_length is None else _run_cut(stage, inputs, clip_length, frames_at_once))
    return known


def _run_cut(stage: RunnableStage, inputs: Arrays, clip_length: int, frames_at_once: int | None) -> Tensors:
    time = next(iter(inputs.values())).shape[1]
    length = {"frame": 1, "clip": clip_length, "video": time}[stage.span]
    if stage.span == "frame" and frames_at_once is not None and time > frames_at_once:
        cuts = [slice(first, first + frames_at_once) for first in range(0, time, frames_at_once)]
        pieces = [_run_clips(stage, {name: array[:, cut] for name, array in inputs.items()}, 1) for cut in cuts]
        return {name: np.concatenate([piece[name] for piece in pieces], axis=1) for name in pieces[0]}
    full = time // length * length
    parts = []
    if full:
        parts.append(_run_clips(stage, {name: array[:, :full] for name, array in inputs.items()}, length))
    if full < time:
        parts.append(_run_clips(stage, {name: array[:, full:] for name, array in inputs.items()}, time - full))
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def _run_clips(stage: RunnableStage, inputs: Arrays, length: int) -> Tensors:
    """Runs (B, n * length, …) as (B * n, length, …)."""
    batch, time = next(iter(inputs.values())).shape[:2]
    outputs = stage.run({name: array.reshape(-1, length, *array.shape[2:]) for name, array in inputs.items()})
    return {name: array.reshape(batch, time, *array.shape[2:]) for name, array in outputs.items()}

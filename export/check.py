"""The proof that a bundle gives what its checkpoint gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from export.errors import DisagreementError, ExportError
from models.arn import Arn
from models.bundle import Bundle
from models.checkpoint import load_checkpoint
from models.onnx_session import open_session

Outputs = Mapping[str, NDArray[np.generic]]

TOLERANCE = 1e-4
"""Largest difference allowed, as a share of the range that the output takes."""

_LEAST_REACTION = 1e-4
"""An output that changes by less than this from frame to frame proves nothing about the part that makes it."""


@dataclass(frozen=True)
class Agreement:
    """The worst difference of one output over all shapes, as a share of that output's range."""

    output: str
    difference: float
    batch: int
    time: int


def check_bundle(
    folder: Path,
    checkpoint: Path,
    *,
    batches: Sequence[int] = (1, 2, 5),
    times: Sequence[int] = (1, 2, 3, 4, 8),
    seed: int = 0,
) -> list[Agreement]:
    """Compares every output of a bundle with its checkpoint on frames of several kinds.

    Returns the worst case of each output. Raises DisagreementError naming the first output whose difference is over
    `TOLERANCE`, ExportError where an output hardly reacts to its input, so that the comparison would prove nothing.
    """
    network, _ = load_checkpoint(checkpoint)
    return check_network(Bundle.load(folder), network, batches=batches, times=times, seed=seed)


def check_network(
    bundle: Bundle, network: Arn, *, batches: Sequence[int], times: Sequence[int], seed: int = 0
) -> list[Agreement]:
    """`check_bundle` with a network in hand."""
    stage = bundle.manifest.stages[0]
    session = open_session(bundle.path_of(stage))
    size = bundle.manifest.frame_size
    random = np.random.default_rng(seed)
    comparisons = {output.name: _Comparison() for output in stage.outputs}
    for batch in batches:
        for time in (time for time in times if time <= bundle.manifest.clip_length):
            frames = sample_frames(random, batch, time, size.height, size.width)
            with torch.inference_mode():
                predicted = network.predict(torch.from_numpy(frames))
            expected: Outputs = {name: tensor.numpy() for name, tensor in predicted.items()}
            names = list(comparisons)
            found: Outputs = dict(zip(names, session.run(names, {"frames": frames}), strict=True))
            for name in names:
                if found[name].shape != expected[name].shape:
                    raise DisagreementError(
                        f"{name}: the bundle gives shape {found[name].shape}, the checkpoint {expected[name].shape}"
                    )
            if network.dense_head is not None:
                found = _in_order_of(expected, found)
            for name, comparison in comparisons.items():
                comparison.add(expected[name].astype(np.float64), found[name].astype(np.float64), batch, time)
    constant = {"pair_mask"} | ({"subject_scores"} if network.dense_head is None else set())
    for name, comparison in comparisons.items():
        if comparison.reaction < _LEAST_REACTION and name not in constant:
            raise ExportError(
                f"{name} hardly changes from frame to frame ({comparison.reaction:.1e}): "
                "the weights do not react to their input"
            )
        if not comparison.share <= TOLERANCE:  # a network that gives NaN has no range, and proves nothing either
            raise DisagreementError(
                f"{name} differs by {comparison.share:.1e} of its range at batch {comparison.batch}, "
                f"{comparison.time} frames; at most {TOLERANCE:.0e} is allowed"
            )
    return [Agreement(name, each.share, each.batch, each.time) for name, each in comparisons.items()]


@dataclass
class _Comparison:
    """What is known of one output: its range, how much it changes between frames, and the worst difference."""

    lowest: float = np.inf
    highest: float = -np.inf
    reaction: float = 0.0
    worst: float = 0.0
    batch: int = 0
    time: int = 0

    def add(self, expected: NDArray[np.float64], found: NDArray[np.float64], batch: int, time: int) -> None:
        """Takes in one run: (B, T, P, …) x 2."""
        self.lowest, self.highest = min(self.lowest, expected.min()), max(self.highest, expected.max())
        self.reaction = max(self.reaction, float(np.abs(expected - expected[0, 0]).max()))
        difference = float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max())
        if difference >= self.worst:
            self.worst, self.batch, self.time = difference, batch, time

    @property
    def share(self) -> float:
        """The worst difference as a share of the output's range; the difference itself for a constant."""
        spread = self.highest - self.lowest
        return self.worst / spread if spread else self.worst


def _in_order_of(expected: Outputs, found: Outputs) -> Outputs:
    """The slots of each frame of `found`, (B, T, P, …) each, in the order that matches those of `expected` best.

    Slots that come from the best cells of a dense head have no order of their own: where two cells score the same but
    for rounding, two runtimes may pick them the other way round, and all that follows moves with them.
    """
    wanted, given = (
        np.concatenate((outputs["object_boxes"], outputs["object_scores"]), -1).astype(np.float64)
        for outputs in (expected, found)
    )
    distances = np.abs(wanted[..., :, None, :] - given[..., None, :, :]).sum(-1)  # (B, T, P, P)
    order = np.array([[linear_sum_assignment(frame)[1] for frame in clip] for clip in np.nan_to_num(distances)])
    return {
        name: np.take_along_axis(values, order.reshape(*order.shape, *[1] * (values.ndim - 3)), axis=2)
        for name, values in found.items()
    }


def sample_frames(random: np.random.Generator, batch: int, time: int, height: int, width: int) -> NDArray[np.uint8]:
    """Frames that differ in more than noise: a gradient, some rectangles and grain; (B, T, H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    slopes = random.uniform(-120, 120, (batch, time, 2, 1, 1, 3))
    frames = 128 + slopes[:, :, 0] * x[..., None] + slopes[:, :, 1] * y[..., None]
    for clip in frames:
        for frame in clip:
            for _ in range(6):
                top, left = random.integers(0, height - 8), random.integers(0, width - 8)
                tall, wide = random.integers(8, height // 2), random.integers(8, width // 2)
                frame[top : top + tall, left : left + wide] = random.uniform(0, 255, 3)
    frames += random.normal(0, 8, frames.shape)
    pixels: NDArray[np.uint8] = frames.clip(0, 255).astype(np.uint8)
    return pixels

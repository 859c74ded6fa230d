"""Proves that a bundle gives the outputs of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from export.errors import DisagreementError, ExportError
from export.facts import check_facts, check_manifest
from models.engines import Tensors, bundle_inputs, open_stages, run_stages
from models.graph.bundle import Bundle
from models.graph.predictions import prediction_names
from models.networks.checkpoint import Incomplete, load_checkpoint
from models.networks.stages import PAIR_MASK, TIMESTAMPS, SceneGraphNetwork

Outputs = Mapping[str, NDArray[np.generic]]

TOLERANCE = 1e-4
"""Largest difference allowed, as a share of the range that the output takes."""

_LEAST_REACTION = 1e-7
"""An output that changes less than this from frame to frame is constant but for rounding."""
_LITTLE_REACTION = 1e-4
"""An output that changes less than this from frame to frame says little about the part that makes it."""
_LEAST_RANGE = 1e-2
"""A smaller range counts as this one: a share of it would be less than float32 resolves."""


@dataclass(frozen=True)
class Agreement:
    """The largest difference of one output over all shapes.

    difference: as a share of the output's range.
    batch, time: the shape at which it occurs.
    reaction: the most that the output changes from frame to frame.
    """

    output: str
    difference: float
    batch: int
    time: int
    reaction: float

    @property
    def proves_little(self) -> bool:
        """True where the output hardly reacts to the frames, so that wrong weights might agree as well."""
        return self.reaction < _LITTLE_REACTION


def check_bundle(
    folder: Path,
    checkpoint: Path,
    *,
    batches: Sequence[int] = (1, 2, 3, 5),
    times: Sequence[int] = (1, 2, 3, 4, 7, 40),
    seed: int = 0,
) -> list[Agreement]:
    """Compares every output of a bundle with its checkpoint on frames of several kinds.

    Returns the worst case of each output. Raises DisagreementError naming the first output whose difference is over
    `TOLERANCE`, or a fact in which the manifest differs; ExportError where an output does not react to its input, so
    that the comparison would prove nothing.
    """
    network, _ = load_checkpoint(checkpoint)
    if isinstance(network, Incomplete):
        raise ExportError(f"{checkpoint} holds a {network.config.network} alone; check a network built on it")
    bundle = Bundle.load(folder)
    check_manifest(bundle)
    check_facts(bundle, network)
    return check_network(bundle, network, batches=batches, times=times, seed=seed)


def check_network(
    bundle: Bundle, network: SceneGraphNetwork, *, batches: Sequence[int], times: Sequence[int], seed: int = 0
) -> list[Agreement]:
    """Compares a bundle with a network; see `check_bundle`.

    First all stages run in order on sample frames, for the times that a clip allows. Then each stage that reads pairs
    runs by itself, for the times that its span allows, on frames with no pair, with one and with all.
    """
    stages, engines = network.stages(), open_stages(bundle, "onnxruntime-cpu")
    random = np.random.default_rng(seed)
    asked = prediction_names(network.vocabulary)
    written = [output.name for stage in bundle.manifest.stages for output in stage.outputs]
    comparisons = {name: _Comparison() for name in written if name in asked}
    size, longest = bundle.manifest.frame_size, bundle.manifest.clip_length
    for batch in batches:
        whole: Tensors = {}
        for time in sorted(time for time in times if time <= longest):
            frames = sample_frames(random, batch, time, size.height, size.width)
            given = bundle_inputs(frames, _moments(batch, time))
            expected, found = run_stages(stages, given), run_stages(engines, given)
            _check_shapes(comparisons, expected, found)
            if network.slots_are_ranked:
                found = _in_order_of(expected, found)
            _add(comparisons, expected, found, batch, time)
            whole = expected
        for stage, engine in zip(stages, engines, strict=True):
            for time in times if PAIR_MASK in stage.inputs else ():
                if stage.span == "video" or time <= longest:
                    inputs = _thinned({name: whole[name] for name in stage.inputs}, batch, time)
                    _add(comparisons, inputs | stage.run(inputs), engine.run(inputs), batch, time)
    # A network may fill all slots of every frame with one subject's pairs, and learned queries give no subject's score.
    constant = {PAIR_MASK, "subject_classes"} | (set() if network.slots_are_ranked else {"subject_scores"})
    for name, comparison in comparisons.items():
        if comparison.reaction < _LEAST_REACTION and name not in constant:
            raise ExportError(
                f"{name} does not change from frame to frame ({comparison.reaction:.1e}): the weights do not react to "
                "the frames that the check makes up; if `vsg evaluate` says that they do react to videos, export with "
                "--no-check"
            )
        if not comparison.share <= TOLERANCE:  # a network that gives NaN has no range, and proves nothing either
            raise DisagreementError(
                f"{name} differs by {comparison.share:.1e} of its range at batch {comparison.batch}, "
                f"{comparison.time} frames; at most {TOLERANCE:.0e} is allowed"
            )
    return [
        Agreement(name, each.share, each.batch, each.time, np.inf if name in constant else each.reaction)
        for name, each in comparisons.items()
    ]


def _moments(batch: int, time: int) -> NDArray[np.float32]:
    """Returns the timestamps (B, T) of two frames a second."""
    moments: NDArray[np.float32] = np.arange(time, dtype=np.float32)[None].repeat(batch, 0) / np.float32(2)
    return moments


def _thinned(tensors: Outputs, batch: int, time: int) -> Tensors:
    """Cuts or repeats inputs to `time` frames; of each three, one has no pair, one has one and one has all."""
    repeated = {
        name: np.concatenate([values] * -(-time // values.shape[1]), axis=1)[:, :time]
        for name, values in tensors.items()
    }
    mask = np.ones_like(repeated[PAIR_MASK])
    mask[:, 0::3] = False
    mask[:, 1::3, 1:] = False
    return repeated | {PAIR_MASK: mask} | ({TIMESTAMPS: _moments(batch, time)} if TIMESTAMPS in repeated else {})


def _check_shapes(comparisons: Mapping[str, _Comparison], expected: Outputs, found: Outputs) -> None:
    for name in comparisons:
        if found[name].shape != expected[name].shape:
            raise DisagreementError(
                f"{name}: the bundle gives shape {found[name].shape}, the checkpoint {expected[name].shape}"
            )


def _add(comparisons: Mapping[str, _Comparison], expected: Outputs, found: Outputs, batch: int, time: int) -> None:
    """Adds one run to the comparisons; slots without a pair are not compared."""
    real = expected[PAIR_MASK].astype(np.bool_)
    for name, comparison in comparisons.items():
        if name in expected and name in found:
            counted = np.ones_like(real) if name == PAIR_MASK else real
            if counted.any():
                comparison.add(expected[name].astype(np.float64), found[name].astype(np.float64), counted, batch, time)


@dataclass
class _Comparison:
    """The range of one output, how much it changes between frames, and its largest difference so far."""

    lowest: float = np.inf
    highest: float = -np.inf
    reaction: float = 0.0
    worst: float = 0.0
    batch: int = 0
    time: int = 0

    def add(
        self, expected: NDArray[np.float64], found: NDArray[np.float64], real: NDArray[np.bool_], batch: int, time: int
    ) -> None:
        """Adds one run: two arrays (B, T, P, …) and the slots that count (B, T, P), at least one."""
        values = expected[real]
        self.lowest, self.highest = min(self.lowest, values.min()), max(self.highest, values.max())
        frames, slots = expected.reshape(-1, *expected.shape[2:]), real.reshape(-1, real.shape[2])
        first = slots.any(1).argmax()
        change = np.abs(frames - frames[first])[slots & slots[first]]
        self.reaction = max(self.reaction, float(change.max()))
        difference = float(np.nan_to_num(np.abs(found - expected)[real], nan=np.inf).max())
        if difference >= self.worst:
            self.worst, self.batch, self.time = difference, batch, time

    @property
    def share(self) -> float:
        """The largest difference as a share of the output's range, or of `_LEAST_RANGE` where it is smaller."""
        return self.worst / max(self.highest - self.lowest, _LEAST_RANGE)


def _in_order_of(expected: Outputs, found: Outputs) -> Tensors:
    """Reorders the slots of each frame of `found`, (B, T, P, …) each, to match those of `expected` best.

    Where two ranked slots score the same but for rounding, two runtimes may order them differently, and all later
    outputs follow.
    """
    wanted, given = (
        np.concatenate((outputs["object_boxes"], outputs["object_scores"]), -1).astype(np.float64)
        for outputs in (expected, found)
    )
    distances = np.abs(wanted[..., :, None, :] - given[..., None, :, :]).sum(-1)  # (B, T, P, P)
    order = np.array([[linear_sum_assignment(frame)[1] for frame in clip] for clip in np.nan_to_num(distances)])
    return {
        name: np.take_along_axis(values, order.reshape(*order.shape, *[1] * (values.ndim - 3)), axis=2)
        if values.shape[:3] == order.shape
        else values
        for name, values in found.items()
    }


def sample_frames(random: np.random.Generator, batch: int, time: int, height: int, width: int) -> NDArray[np.uint8]:
    """Makes frames of a gradient, rectangles and grain, (B, T, H, W, 3) uint8, which differ in more than noise."""
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

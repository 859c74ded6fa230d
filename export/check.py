"""Proves that a bundle gives the outputs of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.comparing import MOST_LEFT_OUT, TOLERANCE, Arbiter, Comparison, Pair, Rounding, Run, run_both
from export.errors import DisagreementError, ExportError
from export.facts import check_facts, check_manifest
from models.engines import Tensors, bundle_inputs, open_stages
from models.graph.bundle import Bundle
from models.graph.predictions import prediction_names
from models.networks.checkpoint import Incomplete, load_checkpoint
from models.networks.stages import PAIR_MASK, TIMESTAMPS, SceneGraphNetwork

Outputs = Mapping[str, NDArray[np.generic]]

_LEAST_REACTION = 1e-7
"""An output that changes less than this from frame to frame is constant but for rounding."""
_LITTLE_REACTION = 1e-4
"""An output that changes less than this from frame to frame says little about the part that makes it."""


@dataclass(frozen=True)
class Agreement:
    """The largest difference of one output over all shapes.

    difference: as a share of the output's range.
    batch, time: the shape at which it occurs.
    reaction: the most that the output changes from frame to frame.
    rounding: what explains a difference over `TOLERANCE`; None for a smaller one.
    left_out: share of the pairs that were not compared, because the bundle has others in their place.
    """

    output: str
    difference: float
    batch: int
    time: int
    reaction: float
    rounding: Rounding | None = None
    left_out: float = 0.0

    def __str__(self) -> str:
        rounding = f"; {self.rounding}" if self.rounding else ""
        return f"{self.output:16s} agrees within {self.difference:.1e} of its range{rounding}"

    @property
    def proves_little(self) -> bool:
        """True where the output hardly reacts to the frames, so that wrong weights might agree as well."""
        return self.reaction < _LITTLE_REACTION


def doubts_of(agreements: Sequence[Agreement]) -> list[str]:
    """Returns in words what a comparison that found no difference leaves open."""
    doubts = []
    if left_out := max(agreement.left_out for agreement in agreements):
        doubts.append(
            f"{left_out:.1%} of the pairs are others than the checkpoint's and were not compared; near ties, of which "
            "rounding decides, explain so few"
        )
    doubts += [
        f"{agreement.output} hardly changes from frame to frame ({agreement.reaction:.1e}), so the check says little "
        "of it; compare the figures of both with `vsg evaluate`"
        for agreement in agreements
        if agreement.proves_little
    ]
    return doubts


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
    `TOLERANCE` and is not rounding, or a fact in which the manifest differs; ExportError where an output does not react
    to its input, so that the comparison would prove nothing.

    Whether a larger difference is rounding is seen from the network in float64, on the frames of that output's worst
    case: the bundle must be as near to it as the network in float32 is there.
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
    ranked = network.slots_are_ranked
    random = np.random.default_rng(seed)
    asked = prediction_names(network.vocabulary)
    written = [output.name for stage in bundle.manifest.stages for output in stage.outputs]
    comparisons = {name: Comparison() for name in written if name in asked}
    size, longest = bundle.manifest.frame_size, bundle.manifest.clip_length
    for batch in batches:
        whole: Tensors = {}
        for time in sorted(time for time in times if time <= longest):
            frames = sample_frames(random, batch, time, size.height, size.width)
            run = Run(bundle_inputs(frames, _moments(batch, time)), slice(None), ranked, batch, time)
            pair = run_both(run, stages, engines)
            _add(comparisons, pair, run)
            whole = pair.expected
        for place, stage in enumerate(stages):
            for time in times if PAIR_MASK in stage.inputs else ():
                if stage.span == "video" or time <= longest:
                    inputs = _thinned({name: whole[name] for name in stage.inputs}, batch, time)
                    run = Run(inputs, slice(place, place + 1), False, batch, time)
                    _add(comparisons, run_both(run, stages, engines), run)
    # A network may fill all slots of every frame with one subject's pairs, and learned queries give no subject's score.
    constant = {PAIR_MASK, "subject_classes"} | (set() if ranked else {"subject_scores"})
    arbiter = Arbiter(network, engines)
    agreements = []
    for name, comparison in comparisons.items():
        if comparison.left_out > MOST_LEFT_OUT:
            raise DisagreementError(
                f"{name} is of other pairs than the checkpoint's in {comparison.left_out:.0%} of the cases; at most "
                f"{MOST_LEFT_OUT:.0%} is allowed, for near ties"
            )
        if comparison.reaction < _LEAST_REACTION and name not in constant:
            raise ExportError(
                f"{name} does not change from frame to frame ({comparison.reaction:.1e}): the weights do not react to "
                "the frames that the check makes up; if `vsg evaluate` says that they do react to videos, export with "
                "--no-check"
            )
        rounding = None
        if not comparison.share <= TOLERANCE:  # a network that gives NaN has no range, and proves nothing either
            rounding = arbiter.find_rounding(name, comparison)
            if rounding is None or not rounding.explains:
                raise DisagreementError(
                    f"{name} differs by {comparison.share:.1e} of its range at batch {comparison.batch}, "
                    f"{comparison.time} frames; at most {TOLERANCE:.0e} is allowed"
                    + (f", or the rounding of float32, but {rounding}" if rounding else "")
                )
        reaction = np.inf if name in constant else comparison.reaction
        agreements.append(
            Agreement(
                name, comparison.share, comparison.batch, comparison.time, reaction, rounding, comparison.left_out
            )
        )
    return agreements


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


def _add(comparisons: Mapping[str, Comparison], pair: Pair, run: Run) -> None:
    """Adds one run to the comparisons."""
    for name, comparison in comparisons.items():
        if name in pair.expected and name in pair.found:
            comparison.add(name, pair, run)


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

"""Runs a network and a bundle side by side, and tells the rounding of float32 from a difference."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from export.errors import DisagreementError
from export.exact import exact_stages
from models.engines import RunnableStage, Tensors
from models.networks.stages import PAIR_MASK, NetworkStage, SceneGraphNetwork

TOLERANCE = 1e-4
"""Largest difference allowed, as a share of the range that the output takes, unless rounding explains a larger one."""
MOST_ROUNDING = 1e-3
"""Largest difference that rounding may explain, as a share of that range."""
MOST_LEFT_OUT = 0.02
"""Largest share of ranked pairs that may be others on the other side: near ties, of which rounding decides."""
_OTHER_PAIR = 0.05
"""Ranked slots whose boxes and object scores differ by more than this in all hold different pairs."""
_LEAST_RANGE = 1e-2
"""A smaller range counts as this one: a share of it would be less than float32 resolves."""


@dataclass(frozen=True)
class Rounding:
    """How far a bundle and its network in float32 are from the network in float64, where the two differ too much.

    Both are shares of the output's range.
    """

    bundle: float
    network: float

    @property
    def explains(self) -> bool:
        """True where the bundle is as near to float64 as is allowed, or as near as float32 gets."""
        return self.bundle <= max(TOLERANCE, min(self.network, MOST_ROUNDING))

    def __str__(self) -> str:
        return f"from float64 the bundle differs by {self.bundle:.1e}, PyTorch in float32 by {self.network:.1e}"


@dataclass(frozen=True)
class Run:
    """Inputs and the stages that they run through.

    ranked: whether slots may change places.
    """

    given: Tensors
    stages: slice
    ranked: bool
    batch: int
    time: int


@dataclass(frozen=True)
class Pair:
    """What a network gives, and what others made of the same inputs.

    same: (B, T, P) bool, true where both slots hold the same pair; None where slots keep their places.
    """

    expected: Tensors
    found: Tensors
    same: NDArray[np.bool_] | None


def run_both(run: Run, stages: Sequence[NetworkStage], others: Sequence[RunnableStage]) -> Pair:
    """Runs a network's stages and others that shall do the same, side by side.

    Ranked slots of the others are brought into the network's order as soon as they are known. A slot that holds
    another pair gets the network's tensors, so that later stages see the same pairs on both sides. Raises
    DisagreementError where shapes differ.
    """
    expected, found = dict(run.given), Tensors()
    same = None
    for stage, other in zip(stages[run.stages], others[run.stages], strict=True):
        found |= other.run(run.given | found)
        expected |= stage.run(expected)
        for name in found:
            if found[name].shape != expected[name].shape:
                raise DisagreementError(
                    f"{name}: the bundle gives shape {found[name].shape}, the checkpoint {expected[name].shape}"
                )
        if run.ranked and same is None and {"object_boxes", "object_scores"} <= found.keys():
            found, same = in_order_of(expected, found)
    return Pair(expected, found, same)


class Arbiter:
    """Tells rounding from a difference by the network in float64. Each run is made once, whichever outputs ask."""

    def __init__(self, network: SceneGraphNetwork, engines: Sequence[RunnableStage]) -> None:
        self._network, self._engines = network, engines
        self._made: list[tuple[Run, Pair, Pair | None]] = []

    def find_rounding(self, name: str, comparison: Comparison) -> Rounding | None:
        """Compares network and bundle with float64, on the run where that output differs most.

        Returns None where that cannot tell: the output is not finite, the network does not run in float64, or it finds
        other pairs in float64.
        """
        if comparison.worst_run is None or not np.isfinite(comparison.share):
            return None
        pair, exact = self._run(comparison.worst_run)
        if exact is None:
            return None
        is_counted = counted(name, pair) & counted(name, exact)
        expected, found, truth = (
            values[name].astype(np.float64)[is_counted] for values in (pair.expected, pair.found, exact.found)
        )
        differ = np.abs(found - expected) > TOLERANCE * comparison.range
        if not differ.any():
            return None
        bundle, own = (float(np.abs(values - truth)[differ].max()) / comparison.range for values in (found, expected))
        return Rounding(bundle, own)

    def _run(self, run: Run) -> tuple[Pair, Pair | None]:
        """Returns what the bundle and the network in float64 make of a run; None where the latter fails."""
        for known, pair, exact in self._made:
            if known is run:
                return pair, exact
        stages = self._network.stages()
        pair, exact = run_both(run, stages, self._engines), None
        with suppress(RuntimeError):  # of a network whose code mixes float32 into float64
            exact = run_both(run, stages, exact_stages(self._network))
        self._made.append((run, pair, exact))
        return pair, exact


def counted(name: str, pair: Pair) -> NDArray[np.bool_]:
    """Returns the slots (B, T, P) of an output that are compared: those of pairs, the same pairs on both sides."""
    real = pair.expected[PAIR_MASK].astype(np.bool_)
    slots = np.ones_like(real) if name == PAIR_MASK else real
    return slots if pair.same is None else slots & pair.same


@dataclass
class Comparison:
    """The range of one output, how much it changes between frames, and its largest difference so far.

    pairs, others: ranked slots with a pair, and those that hold another pair on the other side.
    worst_run: the run of the largest difference, where that is over `TOLERANCE` for all that is known by then.
    """

    lowest: float = np.inf
    highest: float = -np.inf
    reaction: float = 0.0
    worst: float = 0.0
    batch: int = 0
    time: int = 0
    pairs: int = 0
    others: int = 0
    worst_run: Run | None = None

    def add(self, name: str, pair: Pair, run: Run) -> None:
        """Adds the output of that name of one run, (B, T, P, …)."""
        if pair.same is not None:
            self.pairs += int(pair.expected[PAIR_MASK].sum())
            self.others += int((~pair.same).sum())
        real = counted(name, pair)
        if not real.any():
            return
        expected, found = (values[name].astype(np.float64) for values in (pair.expected, pair.found))
        values = expected[real]
        self.lowest, self.highest = min(self.lowest, values.min()), max(self.highest, values.max())
        frames, slots = expected.reshape(-1, *expected.shape[2:]), real.reshape(-1, real.shape[2])
        first = slots.any(1).argmax()
        change = np.abs(frames - frames[first])[slots & slots[first]]
        self.reaction = max(self.reaction, float(change.max()))
        difference = float(np.nan_to_num(np.abs(found - expected)[real], nan=np.inf).max())
        if difference >= self.worst:
            self.worst, self.batch, self.time = difference, run.batch, run.time
            self.worst_run = run if difference > TOLERANCE * self.range else None

    @property
    def range(self) -> float:
        """The range of the output, or `_LEAST_RANGE` where that is smaller."""
        return max(self.highest - self.lowest, _LEAST_RANGE)

    @property
    def share(self) -> float:
        """The largest difference as a share of the range."""
        return self.worst / self.range

    @property
    def left_out(self) -> float:
        """The share of the pairs that are others on the other side, and were not compared."""
        return self.others / max(1, self.pairs)


def in_order_of(expected: Tensors, found: Tensors) -> tuple[Tensors, NDArray[np.bool_]]:
    """Reorders the slots of each frame of `found`, (B, T, P, …) each, to match those of `expected` best.

    Where two ranked slots score the same but for rounding, two runtimes may order them differently, and all later
    outputs follow. Where that is at the last place, or where boxes are suppressed, a slot may hold another pair: it
    gets what `expected` has. Also returns (B, T, P) bool, false for these.
    """
    wanted, given = (
        np.concatenate((outputs["object_boxes"], outputs["object_scores"]), -1).astype(np.float64)
        for outputs in (expected, found)
    )
    distances = np.abs(wanted[..., :, None, :] - given[..., None, :, :]).sum(-1)  # (B, T, P, P)
    order = np.array([[linear_sum_assignment(frame)[1] for frame in clip] for clip in np.nan_to_num(distances)])
    same = ~(np.take_along_axis(distances, order[..., None], -1)[..., 0] > _OTHER_PAIR)  # NaN is no other pair
    ordered = {}
    for name, values in found.items():
        if name in expected and values.shape[:3] == order.shape:
            slots = order.reshape(*order.shape, *[1] * (values.ndim - 3))
            kept = same.reshape(slots.shape)
            values = np.where(kept, np.take_along_axis(values, slots, axis=2), expected[name])
        ordered[name] = values
    return ordered, same

"""Decides the times of a video: its zero, when each frame is shown, and when the last one goes off display.

The packets of a file usually tell all that. Where they cannot be right, the frames are asked, in the order in which the
decoder shows them, and `true_times` finds out which of their times to believe.

Pauses are true, however long, up to a limit: in MPEG streams, whose clocks may begin anywhere, a jump of over an hour
is another recording; elsewhere one of over 30 hours, from where on `ffmpeg` does not believe a file either.

All times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.video.containers import Container
from service.video.true_times import is_regular, long_pause, true_times

TIME_DECIMALS = 4  # as many as scores have; a tenth of a millisecond
DEFAULT_FRAME_RATE = 25.0  # for videos that say nothing about their rate, as some GIF and AVI files do
MAXIMUM_FRAME_RATE = 1000.0

_HOUR = 3600.0
_LONGEST_PAUSE = 30 * _HOUR
_LONGEST_CLOCK = 1e11
_CLOCK_BEGINS_ANYWHERE = {Container.MPEG_TS, Container.MPEG_PS}

_DEEPEST_REORDERING = 16  # frames that codecs may store before others that are shown earlier


@dataclass(frozen=True)
class StreamFacts:
    """Holds what a file says of the times of its video stream as a whole.

    container: of the file.
    begins: when the first sound or picture begins, on the clock of the file.
    declared_rate: frames per second, None where the file does not say.
    undecodable: number of packets before the first one that can be decoded.
    """

    container: Container
    begins: float
    declared_rate: float | None
    undecodable: int = 0


@dataclass(frozen=True)
class Timing:
    """Holds the times of a video. Its zero is the first frame that can be decoded.

    times: (n,) float64, when each frame is shown, ascending from 0.
    end: when the last frame goes off display.
    zero: the first frame on the clock of the file.
    start: the first frame on the clock of a player.
    step: usual time from one frame to the next.
    frame_rate: frames per second, None where neither the times nor the file tell.
    undecodable: how much lies before the first frame and cannot be decoded.
    estimated: number of frames whose stated time was not usable.
    joints: times at which another recording begins.
    """

    times: NDArray[np.float64]
    end: float
    zero: float
    start: float
    step: float
    frame_rate: float | None
    undecodable: float = 0.0
    estimated: int = 0
    joints: tuple[float, ...] = ()


def timing_of_packets(
    facts: StreamFacts, stated: NDArray[np.float64], *, first: float | None, last_duration: float
) -> Timing:
    """Decides the times of frames that are shown when their packets say.

    stated: (n,), ascending.
    first: stated time of the first frame that can be decoded, None where it states none.
    last_duration: of the packet that is shown last, 0 where it states none.
    """
    shown = stated if first is None else stated[np.searchsorted(stated, first - 1e-9) :]
    step = usual_step(stated, facts.declared_rate)
    undecodable = float(shown[0] - stated[0]) if len(shown) else 0.0
    return _timing(facts, shown, float(shown[0]) if len(shown) else 0.0, step, last_duration, undecodable=undecodable)


def timing_of_frames(facts: StreamFacts, stated: NDArray[np.float64], *, last_duration: float) -> Timing:
    """Decides the times of all frames that a decoder gives, in its order, whatever they state.

    stated: (n,), at least one; NaN where a frame states none.
    last_duration: of the last frame, 0 where it states none.
    """
    # No clock has run for thousands of years; and sums of such numbers lose the small ones.
    stated = np.where(np.abs(stated) < _LONGEST_CLOCK, stated, np.nan)
    step = usual_step(stated, facts.declared_rate)
    found = true_times(stated, step, _longest_pause(facts.container))
    return _timing(
        facts,
        found.times,
        found.zero,
        step,
        last_duration,
        undecodable=facts.undecodable * step,
        estimated=found.estimated,
        joints=found.joints,
    )


def _timing(
    facts: StreamFacts,
    shown: NDArray[np.float64],
    zero: float,
    step: float,
    last_duration: float,
    *,
    undecodable: float,
    estimated: int = 0,
    joints: tuple[float, ...] = (),
) -> Timing:
    times = np.round(shown - shown[0] if len(shown) else shown, TIME_DECIMALS)
    lasts = last_duration if 0 < last_duration <= _longest_pause(facts.container) else step
    return Timing(
        times=times,
        end=round(float(shown[-1] - shown[0]) + lasts, TIME_DECIMALS) if len(shown) else 0.0,
        zero=zero,
        start=round(max(0.0, zero - player_zero(facts.container, facts.begins, zero)), TIME_DECIMALS),
        step=step,
        frame_rate=_frame_rate(times, facts.declared_rate),
        undecodable=undecodable,
        estimated=estimated,
        joints=joints,
    )


def sane_rate(rate: Any) -> float | None:
    """Returns frames per second, None for a rate that no video has."""
    return float(rate) if rate is not None and 0 < rate <= MAXIMUM_FRAME_RATE else None


def _frame_rate(times: NDArray[np.float64], declared: float | None) -> float | None:
    """Returns frames per second: the declared rate if it fits the times, since it is exact, else their mean."""
    if len(times) < 2 or times[-1] <= 0:
        return declared
    mean = sane_rate((len(times) - 1) / times[-1])
    return declared if declared and mean and abs(declared - mean) < 0.02 * mean else mean


def usual_step(stated: NDArray[np.float64], declared_rate: float | None) -> float:
    """Returns the usual time from one frame to the next: the declared one if part of them keep it, else the median."""
    known = np.flatnonzero(np.isfinite(stated))
    paces = np.diff(stated[known]) / np.diff(known)
    paces = paces[(paces > 0) & (paces < _HOUR)]
    if declared_rate is None:
        return float(np.median(paces)) if len(paces) else 1 / DEFAULT_FRAME_RATE
    declared = 1 / declared_rate
    # Containers round times to milliseconds.
    keep_it = np.abs(paces - declared) <= max(0.02 * declared, 0.0011)
    return float(np.median(paces)) if len(paces) and keep_it.mean() < 0.25 else declared


def player_zero(container: Container, begins: float, first: float) -> float:
    """Returns the time on the clock of the file at which a player's clock is 0.

    Players begin an MPEG stream with the first sound or picture that it has. Other files have a zero of their own, from
    which players count, whenever sound and picture begin (HTML, "Offsets into the media resource").

    begins: when the first sound or picture begins, on the clock of the file.
    first: when the first frame is shown, on the clock of the file.
    """
    return begins if container in _CLOCK_BEGINS_ANYWHERE else min(0.0, first)


def _longest_pause(container: Container) -> float:
    """Returns the longest jump forwards that may be a pause."""
    return _HOUR if container in _CLOCK_BEGINS_ANYWHERE else _LONGEST_PAUSE


def order_is_plausible(stamps: NDArray[np.int64], *, reorders: bool) -> bool:
    """Tells whether a decoder that gets the packets in this order shows them in the order of their stamps.

    stamps: as stored.
    reorders: the codec stores frames before others that are shown earlier.
    """
    order = np.argsort(stamps, kind="stable")
    if np.any(np.diff(stamps[order]) <= 0):
        return False
    moves = np.abs(order - np.arange(len(order)))
    if not reorders:
        return not moves.any()
    usual = float(np.percentile(moves, 99)) if len(moves) else 0.0
    return bool(moves.max(initial=0) <= min(_DEEPEST_REORDERING, 2 * usual + 1))


def pauses_are_plausible(facts: StreamFacts, timing: Timing) -> bool:
    """Tells whether ascending times need no repair: no jump is too long, and no lone frame stands at either end."""
    steps = np.diff(timing.times)
    if np.any(steps > _longest_pause(facts.container)):
        return False
    return not (is_regular(timing.times, timing.step) and np.any(steps[[0, -1]] > long_pause(timing.step)))

"""Finds the true times of frames from those that a file states.

Frames that a decoder gives one after the other have times that increase. Where they do not, `true_times` looks for the
story that leaves the fewest frames unexplained:

- A frame whose time does not fit between its neighbours', while theirs fit each other, is stamped wrongly. So is a
  whole stretch, if the clock from before goes on after it. Their times are estimated; the others keep theirs.
- A jump backwards that lasts is another recording, which begins where the one before it ends.
- A jump forwards that lasts is a pause, and true, unless it is too long for one: then it is another recording as well.

All times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What a story costs. One frame that is stamped wrongly costs 1.
_NEW_RECORDING = 8.0  # so many frames must follow a jump before it counts as another recording
_RETURN, _RETURN_FRAME = 2.0, 0.25  # frames in a row, at most, and each, if the clock from before goes on after them
_LONE_FRAME = 1.5  # a long pause after the first or before the last frame of a video that is regular otherwise
_UNEVEN = 0.05  # a step that is not the usual one; decides between stories that are equal otherwise
_LOOK_BACK = 32  # frames for which these are weighed exactly
_PAUSE_SECONDS, _PAUSE_STEPS = 2.0, 10.0  # a pause is long from both of these on
_REGULAR_SHARE = 0.9  # of the steps that must be usual ones in a regular video
_FEWEST_REGULAR = 8  # frames that tell whether a video is regular


@dataclass(frozen=True)
class TrueTimes:
    """Holds the times of frames in the order in which they are shown.

    times: (n,) float64, ascending, the first one 0.
    zero: time of the first frame on the clock of the file.
    estimated: number of frames whose stated time was not usable.
    joints: times at which another recording begins.
    """

    times: NDArray[np.float64]
    zero: float
    estimated: int
    joints: tuple[float, ...]


def true_times(stated: NDArray[np.float64], step: float, longest: float) -> TrueTimes:
    """Finds the times of frames from those that the file states.

    stated: (n,), at least one, in the order in which the frames are shown; NaN where the file states none.
    step: usual time from one frame to the next.
    longest: longest jump forwards that may be a pause.
    """
    story = _best_story(stated, step, longest)
    if not len(story):
        return TrueTimes(np.asarray(step * np.arange(len(stated)), np.float64), 0.0, len(stated), ())
    times = np.full(len(stated), np.nan)
    first = story[0]
    times[: first + 1] = stated[first] - step * np.arange(first, -1, -1)
    later = 0.0  # how much later than stated the frames of this recording are shown
    joints = []
    for before, after in zip(story[:-1].tolist(), story[1:].tolist(), strict=True):
        if not _continues(stated[after] - stated[before], longest):
            begins = times[before] + step * (after - before)
            later = begins - stated[after]
            joints.append(begins)
        times[after] = stated[after] + later
        if after - before > 1:
            _fill(times, stated + later, before, after, step)
    last = story[-1]
    times[last:] = times[last] + step * np.arange(len(stated) - last)
    zero = float(times[0])
    return TrueTimes(times - zero, zero, len(stated) - len(story), tuple(joint - zero for joint in joints))


def _fill(times: NDArray[np.float64], stated: NDArray[np.float64], before: int, after: int, step: float) -> None:
    """Sets the times of the frames between two that are known."""
    count = after - before
    gap = times[after] - times[before]
    if gap <= 1.5 * step * count:
        times[before:after] = times[before] + gap * np.arange(count) / count
        return
    # A pause is somewhere here. A frame that is stamped too late lies before what follows, but not long before it.
    for index in range(before + 1, after):
        is_late = stated[index] >= times[after]
        times[index] = times[after] - step * (after - index) if is_late else times[before] + step * (index - before)
    times[before + 1 : after].sort()


def _continues(jump: float, longest: float) -> bool:
    return 0 < jump <= longest


def long_pause(step: float) -> float:
    return max(_PAUSE_SECONDS, _PAUSE_STEPS * step)


def is_regular(stated: NDArray[np.float64], step: float) -> bool:
    usual = np.abs(np.diff(stated) - step) < max(0.2 * step, 0.0021)
    return len(stated) >= _FEWEST_REGULAR and bool(usual.mean() >= _REGULAR_SHARE)


def _best_story(stated: NDArray[np.float64], step: float, longest: float) -> NDArray[np.intp]:
    """Returns the indices of the frames that keep their time, such that all costs together are least.

    Each frame is reached from the one before it that keeps its time: by the best of the few just before it, which are
    weighed exactly; of all before those, by the best that is earlier; by the last one with which it shares the clock;
    or by a jump from the best of all.
    """
    known = np.flatnonzero(np.isfinite(stated))
    values = stated[known]
    count = len(known)
    lone = _LONE_FRAME if is_regular(values, step) else 0.0
    costs = np.zeros(count)  # of the best story that ends with a frame, without the frames after it
    came_from = np.full(count, -1)
    far = _FarBack(values, longest, costs)
    uneven = 0  # the last frame that does not follow the one before it by the usual step
    for index in range(count):
        if index and abs(values[index] - values[index - 1] - step) > 0.1 * step:
            uneven = index
        if index - uneven > _LOOK_BACK:  # nothing explains the frame better than the one before it
            costs[index], came_from[index] = costs[index - 1], index - 1
            continue
        begin = max(0, index - _LOOK_BACK)
        cost, origin = min((float(index), -1), far.best(index, begin))
        if index > begin:
            jumps = values[index] - values[begin:index]
            between = np.arange(index - begin - 1, -1, -1)
            paces = jumps / (known[index] - known[begin:index])
            returns = np.abs(paces - step) * (between + 1) <= 1.5 * step
            near = np.where(returns, np.minimum(between, _RETURN + _RETURN_FRAME * between), between)
            near = near + _UNEVEN * np.minimum(step, np.abs(paces - step)) / step
            near = near + lone * ((jumps > long_pause(step)) & (came_from[begin:index] < 0))
            near = np.where((jumps > 0) & (jumps <= longest), near, between + _NEW_RECORDING)
            near += costs[begin:index]
            nearest = int(near.argmin())
            if near[nearest] <= cost:
                cost, origin = float(near[nearest]), begin + nearest
        costs[index], came_from[index] = cost, origin
    if count > 1 and values[-1] - values[came_from[-1]] > long_pause(step):
        costs[-1] += lone
    story = []
    at = int((costs + (count - 1 - np.arange(count))).argmin()) if count else -1
    while at >= 0:
        story.append(at)
        at = int(came_from[at])
    return _without_excursions(known[story[::-1]], stated, step)


def _without_excursions(story: NDArray[np.intp], stated: NDArray[np.float64], step: float) -> NDArray[np.intp]:
    """Leaves out stretches with times of their own after which the clock from before goes on.

    Such a stretch begins or ends with a jump backwards.
    """
    jumps = np.diff(stated[story])
    is_uneven = np.abs(jumps - step * np.diff(story)) > 1.5 * step
    ends = np.flatnonzero(is_uneven) + 1
    went_back = np.concatenate([[0], np.cumsum(jumps <= 0)])  # how often the times went backwards up to a frame
    kept: list[NDArray[np.intp]] = []
    backs: list[int] = []
    for stretch, back in zip(np.split(story, ends), went_back[[0, *ends]].tolist(), strict=True):
        for position in range(len(kept) - 1, max(-1, len(kept) - _LOOK_BACK), -1):
            before = kept[position][-1]
            expected = step * (stretch[0] - before)
            passed = stated[stretch[0]] - stated[before]
            if backs[position] < back and abs(passed - expected) <= max(1.5 * step, 0.5 * expected):
                del kept[position + 1 :], backs[position + 1 :]
                break
        kept.append(stretch)
        backs.append(back)
    return np.concatenate(kept)


class _FarBack:
    """Finds the best predecessor of a frame among those that lie too far back to be weighed one by one."""

    def __init__(self, values: NDArray[np.float64], longest: float, costs: NDArray[np.float64]) -> None:
        """
        values: stated times, those that are known.
        longest: longest jump forwards that may be a pause.
        costs: of the best story that ends with a frame; filled in meanwhile.
        """
        self._values = values
        self._costs = costs
        self._longest = longest
        self._cheapest = _CheapestInRange(values)
        self._best = (np.inf, -1)
        self._count = 0

    def best(self, index: int, end: int) -> tuple[float, int]:
        """Returns the cost of the frame `index` if it follows one before `end`, and that one."""
        for other in range(self._count, end):
            without = float(self._costs[other]) - other  # so that what lies between is counted by the index alone
            self._best = min(self._best, (without, other))
            self._cheapest.add(other, without)
        self._count = max(self._count, end)
        value = self._values[index]
        cost, at = self._best
        new_recording = (index - 1 + cost + _NEW_RECORDING, at)
        cost, at = self._cheapest.best(value - self._longest, value)
        return min(new_recording, (index - 1 + cost + _UNEVEN, at))


class _CheapestInRange:
    """Finds the cheapest frame whose time lies in a range, among those that were added. A tree of minima."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._sorted = np.sort(values)
        self._ranks = np.searchsorted(self._sorted, values).tolist()
        self._size = max(1, len(values))
        self._tree: list[tuple[float, int]] = [(np.inf, -1)] * (2 * self._size)

    def add(self, index: int, cost: float) -> None:
        """Adds a frame by its index."""
        node = self._ranks[index] + self._size
        while node and (cost, index) < self._tree[node]:
            self._tree[node] = (cost, index)
            node //= 2

    def best(self, low: float, high: float) -> tuple[float, int]:
        """Returns cost and index of the cheapest frame from `low` on and before `high`; infinity and -1 for none."""
        left = int(np.searchsorted(self._sorted, low)) + self._size
        right = int(np.searchsorted(self._sorted, high)) + self._size
        found = (np.inf, -1)
        while left < right:
            if left & 1:
                found = min(found, self._tree[left])
                left += 1
            if right & 1:
                right -= 1
                found = min(found, self._tree[right])
            left //= 2
            right //= 2
        return found

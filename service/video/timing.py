"""Which frames to take and what times they have. Runs in the decoder process."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.video.sampling import Sampling

# Containers round times, Matroska to whole milliseconds: a frame that is due within a millisecond counts as on display,
# or asking for a video's own frame rate would skip every other frame.
_ROUNDING = 0.001
_LONGEST_GAP = 3600.0
"""A step in time beyond this many seconds is a broken clock, not a long frame."""


class Sampler:
    """Answers which frames are on display at the asked times `start + k / fps` of a Sampling.

    A frame on display from `begin` to `end` is taken when at least one asked time lies in that interval; so no frame is
    taken twice, and none that was asked for is missed, however irregular the frames are.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._fps = sampling.fps
        self._start = sampling.start
        self._end = math.inf if sampling.end is None else sampling.end
        self._asked = math.inf if sampling.end is None else math.ceil((sampling.end - self._start) * self._fps - 1e-9)

    def takes(self, begin: ArrayLike, end: ArrayLike) -> NDArray[np.bool_]:
        """Whether each frame, on display from `begin` to `end` (seconds, any shape), is taken."""
        return self._asked_before(end) > self._asked_before(begin)

    def is_past(self, time: float) -> bool:
        """Whether no frame that begins at `time` seconds or later is taken."""
        return time > self._end + _ROUNDING

    def _asked_before(self, time: ArrayLike) -> NDArray[np.float64]:
        count = np.ceil((np.asarray(time, dtype=np.float64) - self._start - _ROUNDING) * self._fps)
        return np.clip(count, 0.0, self._asked)


class Clock:
    """Gives every decoded frame a time in seconds, the first one 0, strictly increasing, whatever its file says.

    `listed` are times to give to the frames one after the other, where they do not know their own. `repaired` counts
    the frames that had no usable time; `origin` is what the file says of the first frame.
    """

    def __init__(self, frame_rate: float, listed: NDArray[np.float64]) -> None:
        self.interval = 1.0 / frame_rate
        self.repaired = 0
        self.origin: float | None = None
        self._listed = iter(listed)
        self._last: float | None = None

    def time_of(self, frame: Any) -> float:
        """The time of the next frame in presentation order, a PyAV frame."""
        stated = next(self._listed, frame.time)
        if self._last is None:
            self.origin = stated
            time = 0.0
        else:
            time = stated - self.origin if stated is not None and self.origin is not None else math.nan
            if not self._last < time <= self._last + _LONGEST_GAP:
                time = self._last + self.interval
                self.repaired += 1
        self._last = time
        return time

    def duration_of(self, frame: Any) -> float:
        """How long a frame is on display, in seconds."""
        stated = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
        return stated if 0.0 < stated <= _LONGEST_GAP else self.interval

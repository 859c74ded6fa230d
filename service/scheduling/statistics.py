"""What an engine has done so far."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    """One run of one stage.

    size     clips, or frames at a stage of span `frame`
    frames   in all of them
    waited   seconds that the first of them has waited for it
    seconds  that it ran
    """

    stage: str
    size: int
    frames: int
    waited: float
    seconds: float


class EngineStatistics:
    """Counts batches since it was made or last reset; safe for threads.

    sizes    how many batches of each stage had each size, by (stage, size)
    frames   that went through each stage
    busy     seconds that the engine's threads spent in each stage, added up
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begins anew."""
        with self._lock:
            self.sizes: Counter[tuple[str, int]] = Counter()
            self.frames: Counter[str] = Counter()
            self.busy: dict[str, float] = {}
            self.since = time.monotonic()

    def add(self, batch: Batch) -> None:
        """Counts a batch."""
        with self._lock:
            self.sizes[batch.stage, batch.size] += 1
            self.frames[batch.stage] += batch.frames
            self.busy[batch.stage] = self.busy.get(batch.stage, 0.0) + batch.seconds

    def busy_share(self, streams: int) -> float:
        """Share of the time since the beginning that the `streams` threads of an engine were busy, 0 to 1."""
        elapsed = time.monotonic() - self.since
        with self._lock:
            return min(1.0, sum(self.busy.values()) / (streams * elapsed)) if elapsed > 0 else 0.0

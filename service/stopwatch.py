"""The seconds that one video spends in each part of its way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.tracing import add_part


@dataclass
class Stopwatch:
    """Adds up the seconds that one video spends in each part. All moments are of `time.perf_counter`.

    seconds: by part.
    began: when the stopwatch was made.
    spans: when each part first began and last ended.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, part: str, since: float) -> None:
        """Adds the time from `since` until now to a part."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - since
        self.spans[part] = (self.spans.get(part, (since, now))[0], now)

    def trace(self, part: str) -> None:
        """Adds a part, if it has begun, to the trace of the current job."""
        if part in self.spans:
            since, until = self.spans[part]
            add_part(part, since=since, until=until, busy=self.seconds[part])

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Adds the duration of the context to a part."""
        since = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, since)

    def timings(self) -> dict[str, float]:
        """Seconds by part, and the total until now."""
        seconds = {**self.seconds, "total": time.perf_counter() - self.began}
        return {part: round(value, 4) for part, value in seconds.items()}

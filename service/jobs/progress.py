"""Publishes the progress of a job that runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from docket import Execution
from redis.exceptions import RedisError

from service.pipeline import Progress

_PUBLISH_SECONDS = 0.5

log = structlog.get_logger(__name__)


class ProgressReporter:
    """Publishes the progress of one job: its thread reports, the event loop writes to the queue.

    Most reports are only remembered, because each one that is published costs the queue several commands.

    moved_at: time of the last report, by `time.monotonic`.
    """

    def __init__(self, execution: Execution, on_publish: Callable[[], None]) -> None:
        """Make it in the event loop.

        execution: of the job, in the queue.
        on_publish: is called in the event loop after each report that was published.
        """
        self.moved_at = time.monotonic()
        # Not docket's `Progress` dependency: in 0.27 all jobs that run at once share one, and report as the last.
        self._progress = execution.progress
        self._on_publish = on_publish
        self._loop = asyncio.get_running_loop()
        self._latest = self._published = Progress(0, 0)
        self._asked_at = 0.0

    def report(self, now: Progress) -> None:
        """Takes a report from the job's thread. Publishes at most two a second, and each that changes `expected`."""
        self._latest = now
        self.moved_at = time.monotonic()
        if now.expected == self._published.expected and self.moved_at - self._asked_at < _PUBLISH_SECONDS:
            return
        self._asked_at = self.moved_at
        # Waiting for it keeps the reports in order, and none comes after the job has ended.
        asyncio.run_coroutine_threadsafe(self.publish(), self._loop).result()

    async def publish(self) -> None:
        """Publishes the latest report. If the queue does not answer, logs that; the next report makes up for it."""
        now, before = self._latest, self._published
        try:
            if now.expected != before.expected:
                await self._progress.set_total(now.expected)
            if now.frames > before.frames:
                await self._progress.increment(now.frames - before.frames)
        except RedisError as error:
            log.warning("progress is not reported: the job queue does not answer", error=str(error))
            return
        self._published = now
        self._on_publish()

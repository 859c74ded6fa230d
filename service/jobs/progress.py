"""How the progress of a job gets from the thread that works on it to those who follow it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import structlog
from docket import Docket, Execution, ExecutionState
from redis.exceptions import RedisError

from service.jobs.life import end_task
from service.pipeline import Progress

_RECONNECT_SECONDS = 0.5
_PUBLISH_SECONDS = 0.5
_BEFORE_A_WORKER = (ExecutionState.SCHEDULED.value, ExecutionState.QUEUED.value)

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


class JobChanges:
    """Wakes those who follow a job when it changes. Use it as an async context manager.

    One subscription hears of all jobs. Docket's own way is a subscription, and so a connection, for each follower, and
    Redis and its client have few of those. The jobs of a memory queue all run in this process, which calls `tell`;
    patterns of a memory queue miss what scripts publish.

    moved_at: when a worker last changed a job, or when this began to listen, by `time.monotonic`; for Redis only.
    """

    def __init__(self, docket: Docket, *, in_memory: bool) -> None:
        self._docket = docket
        self._in_memory = in_memory
        self._followers: dict[str, set[asyncio.Event]] = {}
        self.moved_at = time.monotonic()

    async def __aenter__(self) -> Self:
        self._task = None if self._in_memory else asyncio.create_task(self._listen(), name="vsg job changes")
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            await end_task(self._task)

    @property
    def is_alive(self) -> bool:
        """Whether it still listens. Once it has ended, it does not begin again."""
        return self._task is None or not self._task.done()

    def tell(self, video_id: str) -> None:
        """Wakes the followers of a job in this process."""
        for change in self._followers.get(video_id, ()):
            change.set()

    @contextmanager
    def following(self, video_id: str) -> Iterator[asyncio.Event]:
        """Yields an event that is set when the job may have changed. The follower clears it before it looks again."""
        change = asyncio.Event()
        self._followers.setdefault(video_id, set()).add(change)
        try:
            yield change
        finally:
            self._followers[video_id].remove(change)
            if not self._followers[video_id]:
                del self._followers[video_id]

    async def _listen(self) -> None:
        while True:
            try:
                # Private in docket, but the one way that knows its clusters, sentinels and credentials.
                async with self._docket._pubsub() as pubsub:
                    await pubsub.psubscribe(self._docket.key("state:*"), self._docket.key("progress:*"))
                    async for message in pubsub.listen():
                        self._hear(message)
            except RedisError as error:
                log.warning("the job queue does not answer; listening again", error=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "pmessage":
            self.tell(bytes(message["channel"]).decode().rpartition(":")[2])
            if json.loads(message["data"]).get("state") not in _BEFORE_A_WORKER:
                self.moved_at = time.monotonic()
            return
        self.moved_at = time.monotonic()
        for video_id in self._followers:  # the subscription is new, and changes before it were missed
            self.tell(video_id)

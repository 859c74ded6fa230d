"""Tells those who follow a job that it may have changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import structlog
from docket import Docket, ExecutionState
from redis.exceptions import RedisError

from service.jobs.life import end_tasks

_RETRY_SECONDS = 0.5
_BEFORE_A_WORKER = (ExecutionState.SCHEDULED.value, ExecutionState.QUEUED.value)

log = structlog.get_logger(__name__)


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
            await end_tasks(self._task)

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
            await asyncio.sleep(_RETRY_SECONDS)

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "pmessage":
            self.tell(bytes(message["channel"]).decode().rpartition(":")[2])
            if json.loads(message["data"]).get("state") not in _BEFORE_A_WORKER:
                self.moved_at = time.monotonic()
            return
        self.moved_at = time.monotonic()
        for video_id in self._followers:  # the subscription is new, and changes before it were missed
            self.tell(video_id)

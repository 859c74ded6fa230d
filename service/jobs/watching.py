"""Tells when something happens to a job: one subscription for all of a process that wait for one."""

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

from service.tasks import end_task

_RECONNECT_SECONDS = 0.5
_BEFORE_A_WORKER = (ExecutionState.SCHEDULED.value, ExecutionState.QUEUED.value)

log = structlog.get_logger(__name__)


class Watcher:
    """Listens to what the queue publishes of all jobs. Use it as an async context manager.

    A subscription for each who waits, docket's own way, costs a connection each, and Redis and its client have few.
    The jobs of a memory queue all run in this process, where `tell` is called; its patterns miss what scripts publish.

    moved_at  when a worker last did something with a job, by time.monotonic, or since when this listens; it is known
              of Redis only
    """

    def __init__(self, docket: Docket, *, in_memory: bool) -> None:
        self._docket = docket
        self._in_memory = in_memory
        self._changes: dict[str, set[asyncio.Event]] = {}
        self.moved_at = time.monotonic()

    async def __aenter__(self) -> Self:
        self._task = None if self._in_memory else asyncio.create_task(self._listen(), name="vsg watcher")
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            await end_task(self._task)

    @property
    def is_alive(self) -> bool:
        """Whether it still listens; once this has ended it does not begin again."""
        return self._task is None or not self._task.done()

    def tell(self, video_id: str) -> None:
        """Says that something has happened to a job, in this process."""
        for change in self._changes.get(video_id, ()):
            change.set()

    @contextmanager
    def watching(self, video_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job's state or progress may have changed; who has looked clears it."""
        change = asyncio.Event()
        self._changes.setdefault(video_id, set()).add(change)
        try:
            yield change
        finally:
            self._changes[video_id].remove(change)
            if not self._changes[video_id]:
                del self._changes[video_id]

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
        for video_id in self._changes:  # the subscription stands, and what was published before it has been missed
            self.tell(video_id)

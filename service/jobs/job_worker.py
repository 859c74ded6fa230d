"""A worker of the queue: takes jobs, hands back what it cannot end, and tells how it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Self

from docket import Worker

from service.errors import StorageUnavailable, Unavailable
from service.jobs.catalog import Announcer, Catalog
from service.jobs.graph_maker import GraphMaker
from service.jobs.life import Duties, ProcessLife, end_tasks
from service.jobs.queue import MAKE_GRAPH, JobQueue
from service.jobs.storage_health import StorageHealth
from service.jobs.sweeping import sweep_forever
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.settings import Settings
from service.storage import Storage

# How often a busy worker checks whether it can take another job. An idle one is woken by new jobs.
_CHECK_INTERVAL = timedelta(milliseconds=100)


class JobWorker:
    """Does the jobs of a queue. Use it as an async context manager, within those of the queue and of the life.

    Leaving the context takes no more jobs. With Redis, jobs get `shutdown_seconds` to end, and the rest go back to the
    queue. With a memory queue, all of them end as cancelled.
    """

    def __init__(
        self,
        queue: JobQueue,
        pipeline: Pipeline,
        storage: Storage,
        settings: Settings,
        metrics: Metrics,
        life: ProcessLife,
        storage_health: StorageHealth,
        *,
        duties: Duties | None = None,
    ) -> None:
        """
        life: of this process; it learns from the pipeline's models when an engine dies.
        duties: tells the parent process, if there is one, which jobs are under way.
        """
        self._queue = queue
        self._pipeline = pipeline
        self._storage = storage
        self._settings = settings
        self._life = life
        self._storage_health = storage_health
        self._catalog = Catalog(queue, memory_seconds=settings.stall_seconds)
        self._maker = GraphMaker(
            queue,
            pipeline,
            storage,
            storage_health,
            self._catalog,
            settings,
            metrics,
            duties=duties,
        )
        queue.docket.register(self._maker.make_graph, names=[MAKE_GRAPH])
        self._taking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self._maker.close)
            worker = Worker(
                self._queue.docket,
                concurrency=self._settings.concurrency,
                minimum_check_interval=_CHECK_INTERVAL,
                redelivery_timeout=timedelta(seconds=self._settings.lease_seconds),
                fallback_task=self._maker.put_back_unknown,
            )
            await stack.enter_async_context(worker)
            sweeper = asyncio.create_task(sweep_forever(self._queue, self._storage, self._settings), name="vsg sweeper")
            stack.push_async_callback(end_tasks, sweeper)
            self._taking = asyncio.create_task(worker.run_forever(), name="vsg worker")
            stack.push_async_callback(self._stop, self._taking)
            # The last to begin and the first to end: it announces a worker that takes jobs.
            await stack.enter_async_context(Announcer(self._queue, self._catalog, self._pipeline.models.values()))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._life.stop()
        await self._stack.aclose()

    @property
    def is_alive(self) -> bool:
        """Whether it takes jobs and has its engines. Once it has ended, only a new process helps."""
        takes_jobs = self._taking is not None and not self._taking.done()
        return takes_jobs and self._queue.is_alive and not self._life.engine_lost.is_set()

    async def check(self) -> None:
        """Raises Unavailable when worker or engine has ended, when queue or storage do not answer, or when work stands
        still for `stall_seconds`."""
        stall_seconds = self._settings.stall_seconds
        if not self.is_alive:
            raise Unavailable("the worker has ended; restart the service")
        for name, model in self._pipeline.models.items():
            if (idle := model.idle_seconds()) > stall_seconds:
                raise Unavailable(f"the engine of {name!r} has finished no batch for {idle:.0f} seconds")
        backlog = await self._queue.backlog()
        limit = time.monotonic() - stall_seconds
        if backlog.oldest_seconds > stall_seconds and self._maker.moved_at < limit:
            raise Unavailable(f"videos wait for {backlog.oldest_seconds:.0f} seconds, and the worker takes none")
        if stalled := self._maker.stalled_since(limit):
            raise Unavailable(f"job {stalled} has made no progress for {stall_seconds:g} seconds")
        await self._storage_health.check()

    async def _stop(self, taking: asyncio.Task[None]) -> None:
        in_memory, docket = self._queue.in_memory, self._queue.docket
        waiting = (await docket.snapshot()).future if in_memory else ()
        taking.cancel()  # docket takes no more jobs then, and waits for those under way
        if not in_memory and not self._life.engine_lost.is_set():
            await asyncio.wait([taking], timeout=self._settings.shutdown_seconds)
        self._maker.stop(hand_back=not in_memory)
        await asyncio.wait([taking])
        for execution in waiting:  # lost with the memory queue
            with contextlib.suppress(StorageUnavailable):
                await asyncio.to_thread(self._storage.delete_upload, execution.key)

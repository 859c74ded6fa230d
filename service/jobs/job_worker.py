"""A worker of the queue: takes jobs, hands back what it cannot end, tells how it is, and sweeps storage."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Self

import structlog
from docket import Worker
from redis.exceptions import RedisError

from service.errors import Unavailable
from service.jobs.catalog import Catalog
from service.jobs.graph_maker import GraphMaker
from service.jobs.life import Duties, ProcessLife, end_tasks
from service.jobs.queue import MAKE_GRAPH, JobQueue
from service.jobs.records import OVER
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.settings import Settings
from service.storage import Storage
from service.video.errors import DecoderUnavailable
from service.video.processes import FORK_SERVER

# How often a busy worker checks whether it can take another job. An idle one is woken by new jobs.
_CHECK_INTERVAL = timedelta(milliseconds=100)

log = structlog.get_logger(__name__)


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
        self._maker = GraphMaker(queue, pipeline, storage, metrics, threads=settings.concurrency, duties=duties)
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
            )
            await stack.enter_async_context(worker)
            await Catalog(self._queue.docket).announce(self._pipeline.models.values())
            sweeper = asyncio.create_task(
                _sweep_forever(self._queue, self._storage, self._settings), name="vsg sweeper"
            )
            stack.push_async_callback(end_tasks, sweeper)
            telling = asyncio.create_task(asyncio.to_thread(_tell_isolation), name="vsg isolation")
            stack.push_async_callback(asyncio.wait, [telling])
            self._taking = asyncio.create_task(worker.run_forever(), name="vsg worker")
            stack.push_async_callback(self._stop, self._taking)
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
        """Raises Unavailable when worker or engine has ended, when the queue does not answer, or when work stands
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

    async def _stop(self, taking: asyncio.Task[None]) -> None:
        in_memory, docket = self._queue.in_memory, self._queue.docket
        waiting = (await docket.snapshot()).future if in_memory else ()
        taking.cancel()  # docket takes no more jobs then, and waits for those under way
        if not in_memory and not self._life.engine_lost.is_set():
            await asyncio.wait([taking], timeout=self._settings.shutdown_seconds)
        self._maker.stop(hand_back=not in_memory)
        await asyncio.wait([taking])
        for execution in waiting:  # lost with the memory queue
            await asyncio.to_thread(self._storage.delete_upload, execution.key)


def _tell_isolation() -> None:
    try:
        gaps = FORK_SERVER.isolation_gaps()
    except DecoderUnavailable as error:
        log.error("decoders do not start", error=error.detail)
        return
    if gaps:
        log.warning("decoders are not fully isolated: see docs/operations.md", missing=gaps)
    else:
        log.info("decoders are isolated")


async def _sweep_forever(queue: JobQueue, storage: Storage, settings: Settings) -> None:
    """Sweeps every `sweep_seconds`, in one worker of the fleet at a time, until cancelled.

    Not docket's `Perpetual`: as a task of the queue, a sweep would take the place of a video, count against the limit
    of the queue and in its metrics, and a worker that stops would wait for it.
    """
    interval = timedelta(seconds=settings.sweep_seconds)
    while True:
        try:
            async with queue.docket.redis() as redis:
                is_mine = await redis.set(queue.docket.key("sweeping"), "1", nx=True, px=interval)
            if is_mine:
                await sweep(queue, storage, settings)
        except RedisError as error:
            log.warning("storage is not swept: the job queue does not answer", error=str(error))
        except Exception:  # storage fails in ways of its own; the next sweep may succeed
            log.exception("sweeping failed; trying again later")
        await asyncio.sleep(settings.sweep_seconds)


async def sweep(queue: JobQueue, storage: Storage, settings: Settings) -> None:
    """Deletes uploads that no job needs, results over their retention, and what killed processes left behind."""
    for upload in await asyncio.to_thread(storage.files, "uploads"):
        # An upload that has stood still for so long is given up by the API.
        if upload.age > settings.upload_idle_seconds:
            job = await queue.docket.get_execution(upload.video_id)
            if job is None or job.state in OVER:
                await asyncio.to_thread(storage.delete, upload)
    for result in await asyncio.to_thread(storage.files, "results"):
        if result.age > (settings.stall_seconds if result.is_unfinished else settings.retention):
            await asyncio.to_thread(storage.delete, result)

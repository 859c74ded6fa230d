"""Takes jobs from the queue and makes their graphs."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import structlog
from aiorwlock import RWLock
from docket import Execution, ExecutionState, Worker
from redis.exceptions import RedisError

from service.errors import ServiceError, Unavailable
from service.jobs.catalog import Catalog
from service.jobs.errors import WorkerCrashed
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecord
from service.jobs.supervising import Duties
from service.jobs.sweeping import sweep_forever
from service.metrics import Metrics
from service.pipeline import Pipeline, Progress, Summary, model_reference
from service.problem import problem
from service.scheduling import load_engines
from service.scheduling.errors import EngineDied, JobCancelled
from service.settings import Settings, bundle_folders
from service.storage import Storage
from service.tasks import end_task
from service.tracing import note_end
from service.video.processes import FORK_SERVER
from service.webhooks import Ending

# How often a busy worker looks whether a slot is free; an idle one is woken by new jobs.
_CHECK_INTERVAL = timedelta(milliseconds=100)
_PROGRESS_INTERVAL = 0.5  # seconds; every report costs the queue several commands
_MOST_CRASHES = 3
_MOST_ATTEMPTS = 10  # where workers are killed with their parents, as a container that is out of memory may be

log = structlog.get_logger(__name__)


@dataclass
class _Running:
    """A job that a thread of this process works on."""

    task: asyncio.Task[Any]
    stop: threading.Event = field(default_factory=threading.Event)
    moved_at: float = field(default_factory=time.monotonic)
    lost_engine: bool = False


def open_pipeline(settings: Settings, metrics: Metrics, on_engine_death: Callable[[], None]) -> Pipeline:
    """Loads the models of a worker, and starts what decoders come from.

    on_engine_death  is called, from another thread, when an engine dies: the process should end and be started anew

    Raises NoModels, BundleError or EngineError when the models cannot be served.
    """
    import scipy.optimize  # noqa: F401 - the API of a fleet has none; here the first video would wait for it

    engines = load_engines(bundle_folders(settings), settings)
    for engine in engines.values():
        engine.on_death = on_engine_death
        metrics.watch(engine)
    FORK_SERVER.prepare()
    return Pipeline(engines, settings)


class JobWorker:
    """Does the jobs of a queue. Use it as an async context manager, within the queue's."""

    def __init__(
        self,
        queue: JobQueue,
        pipeline: Pipeline,
        storage: Storage,
        settings: Settings,
        metrics: Metrics,
        *,
        lost: asyncio.Event,
        duties: Duties | None = None,
    ) -> None:
        """`lost` is set when an engine dies; `duties` tells a parent process, if there is one, of jobs under way."""
        self._queue = queue
        self._pipeline = pipeline
        self._storage = storage
        self._settings = settings
        self._metrics = metrics
        self._lost = lost
        self._duties = duties
        self._running: dict[str, _Running] = {}
        self._room = RWLock()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._moved_at = time.monotonic()
        queue.work = self._make_graph

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as stack:
            self._threads = ThreadPoolExecutor(settings.concurrency, "vsg-job")
            # Not on the event loop: a thread that reports its progress waits for that.
            stack.push_async_callback(asyncio.to_thread, self._threads.shutdown)
            worker = Worker(
                self._queue.docket,
                concurrency=settings.concurrency,
                minimum_check_interval=_CHECK_INTERVAL,
                redelivery_timeout=timedelta(seconds=settings.lease_seconds),
            )
            await stack.enter_async_context(worker)
            await Catalog(self._queue.docket).announce(self._pipeline.models.values())
            sweeper = asyncio.create_task(sweep_forever(self._queue, self._storage, settings), name="vsg sweeper")
            stack.push_async_callback(end_task, sweeper)
            self._task = asyncio.create_task(worker.run_forever(), name="vsg worker")
            stack.push_async_callback(self._stop)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def check(self) -> None:
        """Raises Unavailable when worker or engine has ended, the queue does not answer, or something does not move."""
        if not self.is_alive:
            raise Unavailable("the worker has ended; restart the service")
        for name, engine in self._pipeline.models.items():
            if (idle := engine.idle_seconds()) > self._settings.stall_seconds:
                raise Unavailable(f"the engine of {name!r} has finished no batch for {idle:.0f} seconds")
        backlog = await self._queue.backlog()
        limit = time.monotonic() - self._settings.stall_seconds
        if backlog.oldest_seconds > self._settings.stall_seconds and self._moved_at < limit:
            raise Unavailable(f"videos wait for {backlog.oldest_seconds:.0f} seconds, and the worker takes none")
        stalled = [video_id for video_id, job in self._running.items() if job.moved_at < limit]
        if stalled:
            raise Unavailable(f"job {stalled[0]} has made no progress for {self._settings.stall_seconds:g} seconds")

    @property
    def is_alive(self) -> bool:
        """Whether the worker takes jobs and its engines live; once one has ended it does not come back."""
        works = self._task is not None and not self._task.done()
        return works and self._queue.is_alive and all(engine.is_alive for engine in self._pipeline.models.values())

    async def _stop(self) -> None:
        """Takes no more jobs, lets those of Redis end within the grace period, and hands back the rest.

        Jobs of a memory queue are lost with it, so their uploads go as well.
        """
        assert self._task is not None
        snapshot = await self._queue.docket.snapshot() if self._queue.in_memory else None
        self._task.cancel()
        if not self._queue.in_memory and not self._lost.is_set():
            await asyncio.wait([self._task], timeout=self._settings.shutdown_seconds)
        self._stopping = True
        for job in self._running.values():
            job.stop.set()
            # Cancelled after the worker, a job is not over for the queue, which gives it to another worker.
            job.task.cancel()
        await asyncio.wait([self._task])
        for execution in snapshot.future if snapshot is not None else ():
            await asyncio.to_thread(self._storage.delete_upload, execution.key)

    async def _make_graph(self, video_id: str, execution: Execution) -> None:
        """Does one job; what has come out of it is stored before the queue hears that it is over."""
        records = self._queue.records
        record = await records.get(video_id)
        if record is None:  # deleted while it waited
            await asyncio.to_thread(self._storage.delete_upload, video_id)
            return
        done = await asyncio.to_thread(self._storage.result, video_id, record.owner)
        if done is not None:  # by a worker that could not say so any more
            document = json.loads(await asyncio.to_thread(done.read)) if done.failed else None
            await self._end(video_id, record, execution, "failed" if done.failed else "succeeded", document)
            return
        attempts = await records.attempts(video_id)
        if attempts.crashes >= _MOST_CRASHES or attempts.begun >= _MOST_ATTEMPTS:
            ended = max(attempts.crashes, attempts.begun)
            error = WorkerCrashed(f"{ended} workers have ended while they made this")
            await self._fail(video_id, record, execution, error)
            return
        if attempts.begun:
            self._metrics.redeliveries.inc()
            log.warning("job begun again: its worker has ended", id=video_id, crashes=attempts.crashes)
        # What has taken two workers with it runs alone, so that no other is blamed for the third.
        async with self._room.writer if attempts.crashes == _MOST_CRASHES - 1 else self._room.reader:
            await records.begin(video_id)
            await self._run(video_id, record, execution)

    async def _run(self, video_id: str, record: JobRecord, execution: Execution) -> None:
        task = asyncio.current_task()
        assert task is not None
        job = self._running[video_id] = _Running(task)
        if self._duties is not None:
            self._duties.begin(video_id)
        self._metrics.jobs_running.set(len(self._running))
        try:
            summary = await self._in_thread(video_id, record, job, execution)
        except asyncio.CancelledError:
            if self._stopping and not self._queue.in_memory:
                if not job.lost_engine:
                    await self._queue.insist(lambda: self._queue.records.hand_back(video_id))
            else:
                await self._end(video_id, record, execution, "cancelled")
            raise
        except JobCancelled:
            await self._end(video_id, record, execution, "cancelled")
        except ServiceError as error:
            # Not a failure of ours: the job has done what could be done, and its result is the problem.
            await self._fail(video_id, record, execution, error)
        except Exception:
            detail = "the service failed on this video; its operator finds the reason in the log under this id"
            await self._fail(video_id, record, execution, ServiceError(detail))
            raise
        else:
            model = model_reference(self._pipeline.model(record.options.model))
            await self._queue.insist(lambda: self._queue.records.note_result(video_id, record, model))
            self._metrics.record(summary)
            await self._end(video_id, record, execution, "succeeded")
        finally:
            del self._running[video_id]
            if self._duties is not None and not job.lost_engine:
                self._duties.end(video_id)
            self._metrics.jobs_running.set(len(self._running))

    async def _in_thread(self, video_id: str, record: JobRecord, job: _Running, execution: Execution) -> Summary:
        """Runs the pipeline in a thread; when cancelled, tells it to stop and waits until it has.

        Where the engine dies it waits to be cancelled: a job that does not end is given to another worker when this
        process is gone, with its upload.
        """
        loop = asyncio.get_running_loop()
        # Not docket's `Progress` dependency: in 0.27 all jobs that run at once share one, and report as the last.
        progress = execution.progress
        latest = published = Progress(0, 0)
        reported = 0.0

        async def publish(now: Progress) -> None:
            nonlocal published
            try:
                if now.expected != published.expected:
                    await progress.set_total(now.expected)
                if now.frames > published.frames:
                    await progress.increment(now.frames - published.frames)
            except RedisError as error:  # the next report says it
                log.warning("progress not reported: the job queue does not answer", id=video_id, error=str(error))
            else:
                published = now
                self._queue.watcher.tell(video_id)

        def report(now: Progress) -> None:
            nonlocal latest, reported
            latest = now
            job.moved_at = self._moved_at = time.monotonic()
            if now.expected == published.expected and job.moved_at - reported < _PROGRESS_INTERVAL:
                return
            reported = job.moved_at
            # Waiting for it keeps reports in order, and none can come after the job has ended.
            asyncio.run_coroutine_threadsafe(publish(now), loop).result()

        def work() -> Summary:
            with self._storage.local_upload(video_id) as path, self._storage.open_result(video_id, record.owner) as out:
                return self._pipeline.write(
                    path,
                    record.options,
                    out,
                    video_id=video_id,
                    sha256=record.sha256,
                    progress=report,
                    cancelled=job.stop.is_set,
                )

        # With its context, so that what the thread logs and traces is the job's.
        running = loop.run_in_executor(self._threads, contextvars.copy_context().run, work)
        try:
            summary = await asyncio.shield(running)
            await publish(latest)
            return summary
        except EngineDied:
            job.lost_engine = True
            self._lost.set()
            return await asyncio.Future()
        except asyncio.CancelledError:
            job.stop.set()
            while not running.done():  # who deletes a job and who stops the worker may both cancel it
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            # What the thread raises or returns now is of no interest; asking for it keeps asyncio from complaining.
            running.exception()
            raise

    async def _fail(self, video_id: str, record: JobRecord, execution: Execution, error: ServiceError) -> None:
        self._metrics.errors.labels(error.code).inc()
        log.info("job failed", id=video_id, code=error.code, detail=error.detail)
        document = problem(error, job_id=video_id)
        content = json.dumps(document).encode()
        await asyncio.to_thread(self._storage.write_result, video_id, record.owner, content, failed=True)
        await self._end(video_id, record, execution, "failed", document)

    async def _end(
        self,
        video_id: str,
        record: JobRecord,
        execution: Execution,
        status: Ending,
        document: dict[str, Any] | None = None,
    ) -> None:
        """Says that the job has ended, and deletes what it no longer needs; one that was deleted leaves nothing."""
        await self._queue.insist(execution.sync)
        if execution.state is ExecutionState.CANCELLED:
            status, document = "cancelled", None
            await asyncio.to_thread(self._storage.delete_result, video_id, record.owner)
            await self._queue.insist(lambda: self._queue.records.delete(video_id))
        else:
            await self._queue.insist(lambda: self._queue.records.keep(video_id))
        await self._queue.announce(video_id, record, status, document)
        self._moved_at = time.monotonic()
        self._metrics.count_job(status, execution.when)
        note_end(status, None if document is None else document["code"])
        await asyncio.to_thread(self._storage.delete_upload, video_id)
        self._queue.watcher.tell(video_id)
        log.info("job ended", id=video_id, status=status)

"""Makes the graph of one job, from the moment that a worker takes it until its result is stored and announced."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

import structlog
from aiorwlock import RWLock
from docket import CurrentExecution, Execution, ExecutionState
from redis.exceptions import RedisError

from service.errors import EngineDied, JobCancelled, ServiceError
from service.jobs.errors import WorkerCrashed
from service.jobs.life import Duties
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecord
from service.jobs.webhooks import Ending
from service.metrics import Metrics
from service.pipeline import Pipeline, Progress, Summary
from service.storage import Storage
from service.tracing import job_span, note_end

_PUBLISH_SECONDS = 0.5
_MOST_CRASHES = 3
_MOST_ATTEMPTS = 10  # where workers are killed with their parents, as in a container that is out of memory

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


@dataclass(eq=False)
class _Job:
    """A job that has come from the queue; its thread gets it as its context.

    task: the one that docket runs the job in.
    progress: takes the reports of the job's thread.
    cancelled: stops the job's thread.
    has_lost_engine: whether the engine died while the thread used it.
    """

    id: str
    record: JobRecord
    execution: Execution
    task: asyncio.Task[Any]
    progress: ProgressReporter
    cancelled: threading.Event = field(default_factory=threading.Event)
    has_lost_engine: bool = False


class GraphMaker:
    """Does the jobs that a worker takes from the queue, each in a thread of its own.

    A job that ends has a result in storage, a graph or a problem document, before the queue hears of its end.
    """

    def __init__(
        self,
        queue: JobQueue,
        pipeline: Pipeline,
        storage: Storage,
        metrics: Metrics,
        *,
        threads: int,
        duties: Duties | None = None,
    ) -> None:
        """
        threads: most jobs at once.
        duties: tells the parent process, if there is one, which jobs are under way.
        """
        self._queue = queue
        self._pipeline = pipeline
        self._storage = storage
        self._metrics = metrics
        self._duties = duties
        self._threads = ThreadPoolExecutor(threads, "vsg-job")
        self._jobs: dict[str, _Job] = {}
        self._room = RWLock()
        self._hands_back = False
        self._ended_at = time.monotonic()

    async def make_graph(
        self,
        video_id: str,
        execution: Execution = CurrentExecution(),  # noqa: B008 - how docket passes it
    ) -> None:
        """Docket's task: does one job, unless it was deleted, was done before, or has ended too many workers."""
        with structlog.contextvars.bound_contextvars(id=video_id), job_span(execution):
            records = self._queue.records
            record = await records.get(video_id)
            if record is None:  # deleted while it waited
                await asyncio.to_thread(self._storage.delete_upload, video_id)
                return
            task = asyncio.current_task()
            assert task is not None
            progress = ProgressReporter(execution, lambda: self._queue.changes.tell(video_id))
            job = _Job(video_id, record, execution, task, progress)
            if await self._end_if_done(job):
                return
            attempts = await records.attempts(video_id)
            if attempts.crashes >= _MOST_CRASHES or attempts.begun >= _MOST_ATTEMPTS:
                ended = max(attempts.crashes, attempts.begun)
                await self._fail(job, WorkerCrashed(f"{ended} workers have ended while they worked on this video"))
                return
            if attempts.begun:
                self._metrics.redeliveries.inc()
                log.warning("job begun again: its worker has ended", id=video_id, crashes=attempts.crashes)
            # A job that has ended two workers runs alone, so that no other job is blamed for the third.
            async with self._room.writer if attempts.crashes == _MOST_CRASHES - 1 else self._room.reader:
                if self._hands_back:  # the worker has begun to stop while the job waited for the room
                    raise asyncio.CancelledError
                await records.begin(video_id)
                with self._under_way(job):
                    await self._do(job)

    def stop(self, *, hand_back: bool) -> None:
        """Stops all jobs that are under way. Call it when the worker takes no more of them.

        hand_back: leaves them to other workers. Otherwise they end as cancelled.
        """
        self._hands_back = hand_back
        for job in self._jobs.values():
            job.cancelled.set()
            # The queue does not take a task for ended that is cancelled while its worker stops.
            job.task.cancel()

    def close(self) -> None:
        """Waits for the threads. Blocks; call it from another thread than the event loop's, which they report to."""
        self._threads.shutdown()

    @property
    def moved_at(self) -> float:
        """When a job last made progress or ended, by `time.monotonic`."""
        return max([self._ended_at, *(job.progress.moved_at for job in self._jobs.values())])

    def stalled_since(self, moment: float) -> str | None:
        """The id of a job without progress since then, by `time.monotonic`; None if there is none."""
        return next((job.id for job in self._jobs.values() if job.progress.moved_at < moment), None)

    async def _end_if_done(self, job: _Job) -> bool:
        """Ends a job whose result is already there: its worker ended before it could tell the queue."""
        result = await asyncio.to_thread(self._storage.result, job.id, job.record.owner)
        if result is None:
            return False
        if result.failed:
            await self._end(job, "failed", json.loads(await asyncio.to_thread(result.read)))
        else:
            await self._end(job, "succeeded")
        return True

    async def _do(self, job: _Job) -> None:
        try:
            summary = await self._run_pipeline(job)
        except asyncio.CancelledError:
            if not self._hands_back:
                await self._end(job, "cancelled")
            elif not job.has_lost_engine:
                await self._queue.insist(lambda: self._queue.records.hand_back(job.id))
            raise
        except JobCancelled:
            await self._end(job, "cancelled")
        except ServiceError as error:
            # The service works: the job has done what it could, and its result is the problem.
            await self._fail(job, error)
        except Exception:
            detail = "the service failed on this video; its operator finds the reason in the log under this id"
            await self._fail(job, ServiceError(detail))
            raise
        else:
            model = self._pipeline.model(job.record.options.model).reference
            await self._queue.insist(lambda: self._queue.records.note_result(job.id, job.record, model))
            self._metrics.record(summary)
            await self._end(job, "succeeded")

    async def _run_pipeline(self, job: _Job) -> Summary:
        """Runs the pipeline in a thread. When cancelled, stops the thread and waits for it."""
        # With this task's context, so that what the thread logs and traces is the job's.
        in_context = contextvars.copy_context().run
        running = asyncio.get_running_loop().run_in_executor(self._threads, in_context, self._write_graph, job)
        try:
            summary = await asyncio.shield(running)
        except EngineDied:
            # The job must not end: the queue gives it to another worker, with its upload, once this process is gone.
            job.has_lost_engine = True
            await _until_cancelled()
        except asyncio.CancelledError:
            job.cancelled.set()
            await _until_done(running)
            raise
        await job.progress.publish()
        return summary

    def _write_graph(self, job: _Job) -> Summary:
        """Runs in the job's thread."""
        upload, result = self._storage.local_upload(job.id), self._storage.open_result(job.id, job.record.owner)
        with upload as path, result as out:
            return self._pipeline.write(
                path,
                job.record.options,
                out,
                video_id=job.id,
                sha256=job.record.sha256,
                progress=job.progress.report,
                cancelled=job.cancelled.is_set,
            )

    @contextmanager
    def _under_way(self, job: _Job) -> Iterator[None]:
        self._jobs[job.id] = job
        self._metrics.jobs_running.set(len(self._jobs))
        if self._duties is not None:
            self._duties.begin(job.id)
        try:
            yield
        finally:
            del self._jobs[job.id]
            self._metrics.jobs_running.set(len(self._jobs))
            if self._duties is not None and not job.has_lost_engine:
                self._duties.end(job.id)

    async def _fail(self, job: _Job, error: ServiceError) -> None:
        self._metrics.errors.labels(error.code).inc()
        log.info("job failed", id=job.id, code=error.code, detail=error.detail)
        document = error.problem(job_id=job.id)
        content = json.dumps(document).encode()
        await asyncio.to_thread(self._storage.write_result, job.id, job.record.owner, content, failed=True)
        await self._end(job, "failed", document)

    async def _end(self, job: _Job, status: Ending, document: dict[str, Any] | None = None) -> None:
        """Announces the end of a job and deletes what it no longer needs. A deleted job leaves nothing behind."""
        await self._queue.insist(job.execution.sync)
        if job.execution.state is ExecutionState.CANCELLED:
            status, document = "cancelled", None
            await asyncio.to_thread(self._storage.delete_result, job.id, job.record.owner)
            await self._queue.insist(lambda: self._queue.records.delete(job.id))
        else:
            await self._queue.insist(lambda: self._queue.records.keep(job.id))
        await self._queue.announce(job.id, job.record, status, document)
        self._ended_at = time.monotonic()
        self._metrics.count_job(status, job.execution.when)
        note_end(status, None if document is None else document["code"])
        await asyncio.to_thread(self._storage.delete_upload, job.id)
        self._queue.changes.tell(job.id)
        log.info("job ended", id=job.id, status=status)


async def _until_cancelled() -> NoReturn:
    while True:
        await asyncio.sleep(3600)


async def _until_done(running: asyncio.Future[Any]) -> None:
    """Waits for a thread, even if both a caller that deletes the job and the worker that stops cancel the waiting."""
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([running])
    running.exception()  # asyncio would complain if nobody asked for it

"""Makes the graph of one job, from the moment that a worker takes it until its result is stored and announced."""

from __future__ import annotations

import asyncio
import contextvars
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

import structlog
from aiorwlock import RWLock
from docket import CurrentExecution, Execution
from docket.dependencies import AdmissionBlocked

from service.errors import EngineDied, JobCancelled, ServiceError, StorageUnavailable, UnknownModel
from service.jobs.archiving import JobArchive
from service.jobs.catalog import Catalog
from service.jobs.errors import JobUnreadable, WorkerCrashed
from service.jobs.life import Duties
from service.jobs.progress import ProgressReporter
from service.jobs.queue import JobQueue
from service.jobs.records import Standing, TakenJob
from service.jobs.running_job import PutBackError, RunningJob, TakenOverError, result_of, until_cancelled, until_done
from service.jobs.storage_health import StorageHealth
from service.jobs.webhooks import Ending
from service.metrics import Metrics
from service.pipeline import Pipeline, Summary
from service.settings import Settings
from service.storage import Storage
from service.tracing import job_span, note_end

_MOST_CRASHES = 3
_MOST_ATTEMPTS = 10  # where workers are killed with their parents, as in a container that is out of memory
_PAUSE_SECONDS = 0.5  # before a worker puts a job back that it cannot do, so that it does not take it again at once

T = TypeVar("T")

log = structlog.get_logger(__name__)


class GraphMaker:
    """Does the jobs that a worker takes from the queue, each in a thread of its own.

    A job that ends has a result in storage, a graph or a problem document, before the queue hears of its end. A job
    that this worker cannot do now goes back into the queue.
    """

    def __init__(
        self,
        queue: JobQueue,
        pipeline: Pipeline,
        storage: Storage,
        storage_health: StorageHealth,
        catalog: Catalog,
        settings: Settings,
        metrics: Metrics,
        *,
        duties: Duties | None = None,
    ) -> None:
        """`duties` tells the parent process, if there is one, which jobs are under way."""
        self._queue = queue
        self._pipeline = pipeline
        self._storage = storage
        self._storage_health = storage_health
        self._catalog = catalog
        self._archive = JobArchive(settings.archive, storage)
        self._metrics = metrics
        self._duties = duties
        self._withdrawn_seconds = settings.stall_seconds
        self._threads = ThreadPoolExecutor(settings.concurrency, "vsg-job")
        self._jobs: dict[str, RunningJob] = {}
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
            is_held = await self._make_graph(video_id, execution)
        if not is_held:  # docket must not note an end
            raise AdmissionBlocked(execution, "this worker", handled=True)

    async def put_back_unknown(
        self,
        *args: Any,
        execution: Execution = CurrentExecution(),  # noqa: B008 - how docket passes it
        **kwargs: Any,
    ) -> None:
        """Docket's task for jobs of another version that this one does not know: another worker may."""
        log.warning("a job of another version goes back into the queue", id=execution.key)
        await asyncio.sleep(_PAUSE_SECONDS)
        await self._queue.insist(lambda: self._queue.put_back(execution))
        raise AdmissionBlocked(execution, "this worker", handled=True)

    async def _make_graph(self, video_id: str, execution: Execution) -> bool:
        """Returns whether docket may note the end of the job; otherwise another worker has it, or will."""
        taken = await self._queue.take(video_id)
        if taken is None:  # deleted while it waited
            await self._drop_upload(video_id)
            return True
        task = asyncio.current_task()
        assert task is not None
        progress = ProgressReporter(execution, lambda: self._queue.changes.tell(video_id))
        job = RunningJob(taken, execution, task, progress)
        try:
            return await self._work_or_put_back(job)
        except TakenOverError:
            log.warning("job left to the worker that has it now", id=video_id)
            return False

    async def _work_or_put_back(self, job: RunningJob) -> bool:
        """Returns whether the job has ended. Raises TakenOverError and CancelledError."""
        try:
            try:
                await self._work(job)
                return True
            except (PutBackError, StorageUnavailable) as error:
                log.info("job goes back into the queue", id=job.id, reason=str(error))
                return not await self._put_back(job)
        except asyncio.CancelledError:
            if not self._hands_back:
                await self._end(job, "cancelled")
            elif job.is_begun and not job.has_lost_engine:
                release = self._queue.records.release
                await self._queue.insist(lambda: release(job.taken, was_begun=True, leaves=False))
            raise

    async def _work(self, job: RunningJob) -> None:
        """Does a job to its end. Raises PutBackError, TakenOverError, StorageUnavailable and CancelledError."""
        attempts = job.taken.attempts
        if job.taken.ended is not None:
            await self._tell_again(job)
            return
        await self._storage_health.check()
        if not await self._is_able(job):
            return
        if await self._stands(job, self._queue.records.show) == "deleted":
            await self._end(job, "cancelled")
            return
        self._queue.changes.tell(job.id)
        if attempts.begun and await self._end_if_done(job):
            return
        if attempts.crashes >= _MOST_CRASHES or attempts.begun >= _MOST_ATTEMPTS:
            ended = max(attempts.crashes, attempts.begun)
            await self._fail(job, WorkerCrashed(f"{ended} workers have ended while they worked on this video"))
            return
        if attempts.begun:
            self._metrics.redeliveries.inc()
            log.warning("job begun again: its worker has ended", id=job.id, crashes=attempts.crashes)
        # A job that has ended two workers runs alone, so that no other job is blamed for the third.
        async with self._room.writer if attempts.crashes == _MOST_CRASHES - 1 else self._room.reader:
            if self._hands_back:  # the worker has begun to stop while the job waited for the room
                raise asyncio.CancelledError
            if await self._stands(job, self._queue.records.begin) == "deleted":
                await self._end(job, "cancelled")
                return
            job.is_begun = True
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

    async def _is_able(self, job: RunningJob) -> bool:
        """Whether this worker can do a job. Raises PutBackError if not; fails it where none could for a long time."""
        record = job.taken.record
        if record is None:
            error: ServiceError = JobUnreadable("another version of the service accepted this video: post it again")
        else:
            name = job.model
            if name is None or name in self._pipeline.models:
                return True
            if await self._queue.insist(lambda: self._catalog.remembers(name)):
                raise PutBackError(f"this worker has no model {name!r}")
            error = UnknownModel("model", f"the model {name!r:.80} is served no longer: use another")
        accepted = job.taken.accepted
        waited = 0.0 if accepted is None else await self._queue.insist(self._queue.now) - accepted
        if waited < self._withdrawn_seconds:
            raise PutBackError(error.detail)
        await self._fail(job, error)
        return False

    async def _tell_again(self, job: RunningJob) -> None:
        """Repeats what a worker does after a job has ended, because the one that ended it has not told the queue."""
        head, status = job.taken.head, cast(Ending, job.taken.ended)
        if head is not None and not job.taken.is_told:
            document = None
            if status == "failed":
                result = await asyncio.to_thread(self._storage.result, job.id, head.owner)
                document = None if result is None else json.loads(await asyncio.to_thread(result.read))
            await self._queue.announce(job.id, head, status, document)
        await self._drop_upload(job.id)
        self._queue.changes.tell(job.id)

    async def _end_if_done(self, job: RunningJob) -> bool:
        """Ends a job whose result is already there: its worker ended before it could tell the queue."""
        result = await asyncio.to_thread(self._storage.result, job.id, job.record.owner)
        if result is None:
            return False
        if not result.failed:
            await asyncio.to_thread(self._archive.add, job.id, job.record.owner)
            await self._end(job, "succeeded")
        else:
            await self._end(job, "failed", json.loads(await asyncio.to_thread(result.read)))
        return True

    async def _do(self, job: RunningJob) -> None:
        try:
            summary = await self._run_pipeline(job)
        except JobCancelled:
            await self._end(job, "cancelled")
        except (TakenOverError, StorageUnavailable):
            raise
        except ServiceError as error:
            # A decoder cannot tell a damaged video from a storage that went away.
            await self._storage_health.check()
            # The service works: the job has done what it could, and its result is the problem.
            await self._fail(job, error)
        except Exception:
            await self._storage_health.check()
            log.exception("the service failed on a video", id=job.id)
            detail = "the service failed on this video; its operator finds the reason in the log under this id"
            await self._fail(job, ServiceError(detail))
        else:
            await asyncio.to_thread(self._archive.add, job.id, job.record.owner)
            model = self._pipeline.model(job.model).reference
            await self._queue.insist(lambda: self._queue.records.note_result(job.id, job.record, model))
            self._metrics.record(summary)
            await self._end(job, "succeeded")

    async def _run_pipeline(self, job: RunningJob) -> Summary:
        """Runs the pipeline in a thread. When cancelled, stops the thread and waits for it."""
        # With this task's context, so that what the thread logs and traces is the job's.
        in_context = contextvars.copy_context().run
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, in_context, self._write_graph, job, loop)
        try:
            summary = await asyncio.shield(running)
        except EngineDied:
            # The job must not end: the queue gives it to another worker, with its upload, once this process is gone.
            job.has_lost_engine = True
            await until_cancelled()
        except asyncio.CancelledError:
            job.cancelled.set()
            await until_done(running)
            raise
        await job.progress.publish()
        return summary

    def _write_graph(self, job: RunningJob, loop: asyncio.AbstractEventLoop) -> Summary:
        """Runs in the job's thread."""
        upload, result = self._storage.local_upload(job.id), self._storage.open_result(job.id, job.record.owner)
        with upload as path, result as out:
            summary = self._pipeline.write(
                path,
                job.record.options.model_copy(update={"model": job.model}),
                out,
                video_id=job.id,
                sha256=job.record.sha256,
                progress=job.progress.report,
                cancelled=job.cancelled.is_set,
            )
            # The last moment at which nobody can see the result.
            if result_of(self._stands(job, self._queue.records.standing), loop, job) == "deleted":
                raise JobCancelled("the job was deleted")
            return summary

    @contextmanager
    def _under_way(self, job: RunningJob) -> Iterator[None]:
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

    async def _stands(self, job: RunningJob, ask: Callable[[TakenJob], Awaitable[Standing]]) -> Standing:
        """What has become of a job. Raises TakenOverError where another worker has it."""
        standing = await self._queue.insist(lambda: ask(job.taken))
        if standing == "taken":
            raise TakenOverError
        return standing

    async def _put_back(self, job: RunningJob) -> bool:
        """Puts a job back into the queue. Returns False where it was deleted meanwhile, and has ended so."""
        await asyncio.sleep(_PAUSE_SECONDS)
        release = self._queue.records.release
        standing = await self._queue.insist(lambda: release(job.taken, was_begun=job.is_begun, leaves=True))
        job.is_begun = False
        if standing == "taken":
            raise TakenOverError
        if standing == "deleted":
            await self._end(job, "cancelled")
            return False
        await self._queue.insist(lambda: self._queue.put_back(job.execution))
        self._queue.changes.tell(job.id)
        return True

    async def _fail(self, job: RunningJob, error: ServiceError) -> None:
        document = error.problem(job_id=job.id)
        owner = None if job.taken.head is None else job.taken.head.owner
        if owner is not None and await self._stands(job, self._queue.records.standing) != "deleted":
            content = json.dumps(document).encode()
            await asyncio.to_thread(self._storage.write_result, job.id, owner, content, failed=True)
        self._metrics.errors.labels(error.code).inc()
        log.info("job failed", id=job.id, code=error.code, detail=error.detail)
        await self._end(job, "failed", document)

    async def _end(self, job: RunningJob, status: Ending, document: dict[str, Any] | None = None) -> None:
        """Announces the end of a job and deletes what it no longer needs. A deleted job leaves nothing behind.

        Raises TakenOverError where another worker has the job.
        """
        standing = await self._queue.insist(lambda: self._queue.records.end(job.taken, status))
        if standing == "taken":
            raise TakenOverError
        head = job.taken.head
        if standing == "deleted":
            status, document = "cancelled", None
            if head is not None:
                with suppress(StorageUnavailable):  # then the next sweep deletes it
                    await asyncio.to_thread(self._storage.delete_result, job.id, head.owner)
                    await asyncio.to_thread(self._archive.delete, job.id)
        if head is not None:
            await self._queue.announce(job.id, head, status, document)
        self._ended_at = time.monotonic()
        accepted = job.taken.accepted
        seconds = None if accepted is None else await self._queue.insist(self._queue.now) - accepted
        self._metrics.count_job(status, seconds)
        note_end(status, None if document is None else document["code"])
        await self._drop_upload(job.id)
        self._queue.changes.tell(job.id)
        log.info("job ended", id=job.id, status=status)

    async def _drop_upload(self, video_id: str) -> None:
        with suppress(StorageUnavailable):  # then the next sweep deletes it
            await asyncio.to_thread(self._storage.delete_upload, video_id)

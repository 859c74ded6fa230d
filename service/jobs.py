"""Jobs: what was uploaded waits in a queue until a worker has made its graph.

The queue is docket's. With `memory://` (the default) queue and worker live in this process; the same code serves a
Redis URL. A job carries names only: the upload and the result lie in `Storage`, so any worker can do it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import structlog
from docket import CurrentExecution, Docket, Execution, ExecutionState, Worker
from redis.exceptions import RedisError

from models.scene_graph import Status
from service.errors import EngineDied, JobCancelled, NotFound, QueueFull, ServiceError, Unavailable
from service.metrics import Metrics
from service.options import VideoOptions
from service.pipeline import Pipeline, Progress, Summary
from service.problem import problem_bytes
from service.settings import Settings
from service.storage import Storage, StoredResult

VIDEO_ID = re.compile(r"[0-9a-f]{32}")
MEMORY_QUEUE = "memory://"
_MAKE_GRAPH = "make_graph"
_FORGET = "forget"
_OVER = (ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED)
# How often a busy worker looks whether a slot is free; an idle one is woken by new jobs.
_CHECK_INTERVAL = timedelta(milliseconds=100)
_PROGRESS_INTERVAL = 0.5  # seconds; every report costs the queue several commands

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class JobState:
    """What is known about a job: `result` is the stored graph or, for a failed job, the stored problem document."""

    id: str
    status: Status
    progress: Progress | None = None
    result: StoredResult | None = None

    def as_json(self) -> dict[str, Any]:
        """The body that reports a job which has not ended."""
        body: dict[str, Any] = {"id": self.id, "status": self.status}
        if self.progress is not None:
            body["progress"] = {"frames": self.progress.frames, "expected": self.progress.expected}
        return body


@dataclass
class _Running:
    """A job that a thread of this process works on."""

    task: asyncio.Task[Any]
    stop: threading.Event = field(default_factory=threading.Event)
    moved_at: float = field(default_factory=time.monotonic)


class Jobs:
    """Takes jobs, works on them, and keeps what came out. Use it as an async context manager."""

    def __init__(self, pipeline: Pipeline, storage: Storage, settings: Settings, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._storage = storage
        self._settings = settings
        self._metrics = metrics
        self._running: dict[str, _Running] = {}
        self._in_memory = settings.queue_url.startswith(MEMORY_QUEUE)
        # A memory queue is shared by all that use its URL in one event loop, so each gets a name of its own.
        url = f"{MEMORY_QUEUE}{secrets.token_hex(8)}" if self._in_memory else settings.queue_url
        self._docket = Docket(name="vsg", url=url, execution_ttl=timedelta(seconds=settings.retention))
        self._docket.register(self._make_graph, names=[_MAKE_GRAPH])
        self._docket.register(self._forget, names=[_FORGET])
        self._worker_task: asyncio.Task[None] | None = None
        self._engine_died = asyncio.Event()
        self._stopping = False

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._in_memory:  # no job of another process can need what lies there
                await asyncio.to_thread(self._storage.delete_older_than, self._settings.retention)
            self._threads = stack.enter_context(ThreadPoolExecutor(self._settings.concurrency, "vsg-job"))
            await stack.enter_async_context(self._docket)
            slots = self._settings.concurrency
            worker = Worker(
                self._docket,
                concurrency=slots,
                minimum_check_interval=_CHECK_INTERVAL,
                redelivery_timeout=timedelta(seconds=self._settings.lease_seconds),
            )
            await stack.enter_async_context(worker)
            self._worker_task = asyncio.create_task(worker.run_forever(), name="vsg worker")
            stack.push_async_callback(self._stop_worker)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def check_room(self) -> None:
        """Raises QueueFull when the operator's limit of jobs is reached."""
        if await self._stream_length() >= self._settings.queue_limit:
            raise QueueFull(f"{self._settings.queue_limit} videos wait or run already, the most here; try again later")

    async def submit(self, video_id: str, sha256: str, options: VideoOptions) -> None:
        """Puts a job for a stored upload into the queue; once it is there, the upload is the job's to delete.

        Raises QueueFull.
        """
        await self.check_room()
        await self._docket.add(_MAKE_GRAPH, key=video_id)(video_id, sha256, options.model_dump())

    async def state(self, video_id: str) -> JobState:
        """What is known about a job. Raises NotFound when it never was, was deleted, or is kept no longer."""
        execution = await self._execution(video_id)
        result = await asyncio.to_thread(self._storage.result, video_id)
        if result is not None:
            return JobState(video_id, "failed" if result.failed else "succeeded", result=result)
        if execution is None or execution.state in _OVER:
            raise _not_found(video_id)
        return _state_of(execution)

    async def wait(self, video_id: str, seconds: float) -> bool:
        """Waits until a job is over, at most so long; says whether it is.

        Raises Unavailable when the engine dies and the job with it, as those of a memory queue do.
        """
        over = asyncio.ensure_future(self._until_over(video_id))
        died = asyncio.ensure_future(self._engine_died.wait())
        try:
            await asyncio.wait({over, died}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                over.result()
                return True
            if died.done() and self._in_memory:
                raise Unavailable("the engine has died, and this video with it; post it again")
            return False
        finally:
            for task in (over, died):
                task.cancel()
            await asyncio.wait({over, died})

    async def _until_over(self, video_id: str) -> None:
        async for _ in self.events(video_id):
            pass

    async def events(self, video_id: str) -> AsyncIterator[JobState]:
        """The states of a job as they change, the present one first, until it is over.

        The last one carries no content; ask `state` for it. Raises NotFound.
        """
        execution = await self._execution(video_id)
        if execution is None:
            yield await self.state(video_id)
            return
        async with aclosing(execution.subscribe()) as events:
            async for event in events:
                if event["type"] == "state":
                    execution.state = ExecutionState(event["state"])
                elif event["current"] is not None:
                    execution.progress.current, execution.progress.total = event["current"], event["total"]
                yield _state_of(execution)
                if execution.state in _OVER:
                    return

    async def delete(self, video_id: str) -> None:
        """Cancels a job, wherever it is, and deletes what is kept of it. Raises NotFound."""
        execution = await self._execution(video_id)
        if execution is not None:
            await self._docket.cancel(video_id)
        waiting = execution is not None and execution.state in (ExecutionState.QUEUED, ExecutionState.SCHEDULED)
        if waiting:  # a job that runs counts itself, and deletes its upload when it has stopped reading
            self._metrics.jobs.labels("cancelled").inc()
            await asyncio.to_thread(self._storage.delete_upload, video_id)
        deleted = await asyncio.to_thread(self._storage.delete_result, video_id)
        if not deleted and (execution is None or execution.state in _OVER):
            raise _not_found(video_id)

    async def waiting(self) -> int:
        """How many jobs wait for a worker."""
        return max(0, await self._stream_length() - len(self._running))

    async def check(self) -> None:
        """Raises Unavailable when worker or engine has ended, the queue does not answer, or something does not move."""
        if not self.is_alive:
            raise Unavailable("the worker has ended; restart the service")
        for name, engine in self._pipeline.models.items():
            if (idle := engine.idle_seconds()) > self._settings.stall_seconds:
                raise Unavailable(f"the engine of {name!r} has finished no batch for {idle:.0f} seconds")
        try:
            await self._stream_length()
        except RedisError as error:
            raise Unavailable("the job queue does not answer") from error
        limit = time.monotonic() - self._settings.stall_seconds
        stalled = [video_id for video_id, job in self._running.items() if job.moved_at < limit]
        if stalled:
            raise Unavailable(f"job {stalled[0]} has made no progress for {self._settings.stall_seconds:g} seconds")

    @property
    def is_alive(self) -> bool:
        """Whether the worker takes jobs and its engines live; once one has ended it does not come back."""
        works = self._worker_task is not None and not self._worker_task.done()
        return works and all(engine.is_alive for engine in self._pipeline.models.values())

    async def _stop_worker(self) -> None:
        """Stops what runs. Jobs of a memory queue are lost with it, so their uploads go as well; others go back."""
        assert self._worker_task is not None
        self._stopping = True
        snapshot = await self._docket.snapshot() if self._in_memory else None
        self._worker_task.cancel()
        for job in self._running.values():
            job.stop.set()
            # Cancelled after the worker, a job is not over for the queue, which gives it to another worker.
            job.task.cancel()
        await asyncio.wait([self._worker_task])
        for execution in snapshot.future if snapshot is not None else ():
            if execution.function_name == _MAKE_GRAPH:
                await asyncio.to_thread(self._storage.delete_upload, execution.key)

    async def _make_graph(
        self,
        video_id: str,
        sha256: str,
        options: dict[str, Any],
        execution: Execution = CurrentExecution(),  # noqa: B008 - docket's way of asking for it
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        job = self._running[video_id] = _Running(task)
        self._metrics.jobs_running.set(len(self._running))
        status: Status = "failed"
        try:
            summary = await self._in_thread(video_id, sha256, VideoOptions.model_validate(options), job, execution)
            await self._kept(video_id, execution)
            self._metrics.record(summary)
            status = "succeeded"
        except asyncio.CancelledError:
            status = "cancelled" if self._in_memory or not self._stopping else "queued"
            raise
        except ServiceError as error:
            # Not a failure of ours: the job has done what could be done, and its result is the problem.
            status = "cancelled" if isinstance(error, JobCancelled) else "failed"
            await self._keep_problem(video_id, error, execution)
        except Exception:
            detail = "the service failed on this video; its operator finds the reason in the log under this id"
            await self._keep_problem(video_id, ServiceError(detail), execution)
            raise
        finally:
            del self._running[video_id]
            self._metrics.jobs_running.set(len(self._running))
            if status != "queued":
                self._metrics.jobs.labels(status).inc()
                await asyncio.to_thread(self._storage.delete_upload, video_id)

    async def _in_thread(
        self, video_id: str, sha256: str, options: VideoOptions, job: _Running, execution: Execution
    ) -> Summary:
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
            if now.expected != published.expected:
                await progress.set_total(now.expected)
            if now.frames > published.frames:
                await progress.increment(now.frames - published.frames)
            published = now

        def report(now: Progress) -> None:
            nonlocal latest, reported
            latest = now
            job.moved_at = time.monotonic()
            if now.expected == published.expected and job.moved_at - reported < _PROGRESS_INTERVAL:
                return
            reported = job.moved_at
            # Waiting for it keeps reports in order, and none can come after the job has ended.
            asyncio.run_coroutine_threadsafe(publish(now), loop).result()

        def work() -> Summary:
            with self._storage.local_upload(video_id) as path, self._storage.open_result(video_id) as out:
                return self._pipeline.write(
                    path, options, out, video_id=video_id, sha256=sha256, progress=report, cancelled=job.stop.is_set
                )

        running = loop.run_in_executor(self._threads, work)
        try:
            summary = await asyncio.shield(running)
            await publish(latest)
            return summary
        except EngineDied:
            self._engine_died.set()
            return await asyncio.Future()
        except asyncio.CancelledError:
            job.stop.set()
            await asyncio.wait([running])
            # What the thread raises or returns now is of no interest; asking for it keeps asyncio from complaining.
            running.exception()
            raise

    async def _kept(self, video_id: str, execution: Execution) -> None:
        """Lets the result be forgotten when the operator's retention is over, or now if the job was deleted."""
        await execution.sync()
        if execution.state is ExecutionState.CANCELLED:
            await asyncio.to_thread(self._storage.delete_result, video_id)
            return
        when = datetime.now(UTC) + timedelta(seconds=self._settings.retention)
        await self._docket.add(_FORGET, when=when, key=f"forget-{video_id}")(video_id)

    async def _keep_problem(self, video_id: str, error: ServiceError, execution: Execution) -> None:
        self._metrics.errors.labels(error.code).inc()
        log.info("job failed", id=video_id, code=error.code, detail=error.detail)
        content = problem_bytes(error, job_id=video_id)
        await asyncio.to_thread(self._storage.write_result, video_id, content, failed=True)
        await self._kept(video_id, execution)

    async def _forget(self, video_id: str) -> None:
        await asyncio.to_thread(self._storage.delete_result, video_id)

    async def _execution(self, video_id: str) -> Execution | None:
        """The queue's record of a job, None when it keeps none. Raises NotFound for what is no id or was deleted."""
        if not VIDEO_ID.fullmatch(video_id):
            raise _not_found(video_id)
        execution = await self._docket.get_execution(video_id)
        if execution is not None and execution.state is ExecutionState.CANCELLED:
            raise _not_found(video_id)
        return execution

    async def _stream_length(self) -> int:
        async with self._docket.redis() as redis:
            return int(await redis.xlen(self._docket.stream_key))


def _state_of(execution: Execution) -> JobState:
    status = _STATUS[execution.state]
    done, expected = execution.progress.current, execution.progress.total
    progress = Progress(done, expected) if status == "running" and done is not None else None
    return JobState(execution.key, status, progress)


_STATUS: dict[ExecutionState, Status] = {
    ExecutionState.SCHEDULED: "queued",
    ExecutionState.QUEUED: "queued",
    ExecutionState.RUNNING: "running",
    ExecutionState.COMPLETED: "succeeded",
    ExecutionState.FAILED: "failed",
    ExecutionState.CANCELLED: "cancelled",
}


def _not_found(video_id: str) -> NotFound:
    return NotFound(f"no video {video_id[:40]!r}; it was deleted, is kept no longer, or never was")

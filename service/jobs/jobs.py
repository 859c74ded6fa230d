"""What the API does with jobs: takes them, tells how they are, and gives out or deletes what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from docket import ExecutionState
from redis.exceptions import RedisError

from models.graph.scene_graph import ModelReference
from service.errors import Unavailable
from service.jobs.catalog import Catalog
from service.jobs.errors import IdempotencyMismatch, NotFound, QueueFull
from service.jobs.queue import JobQueue, answer_in_time, in_time
from service.jobs.records import JobRecord
from service.jobs.state import OVER, VIDEO_ID, JobState, not_found
from service.metrics import Metrics
from service.settings import Settings
from service.storage import Storage, StoredResult

_RECONNECT_SECONDS = 0.5


class Jobs:
    """The API's side of the queue. Whoever asks for a job is named by `owner`; another's jobs are not found.

    All methods raise RedisError when the queue does not answer.
    """

    def __init__(self, queue: JobQueue, storage: Storage, settings: Settings, metrics: Metrics) -> None:
        self.catalog = Catalog(queue.docket)
        self._queue = queue
        self._storage = storage
        self._settings = settings
        self._metrics = metrics
        # Set when the engine of this process dies: what waits for a job of a memory queue waits in vain.
        self.lost = asyncio.Event()
        # Set when this process has been told to stop: nothing is waited for any longer that goes on without it.
        self.stopping = asyncio.Event()

    async def check_room(self) -> None:
        """Raises QueueFull when the operator's limit of jobs is reached."""
        async with in_time():
            length = await self._queue.length()
        if length >= self._settings.queue_limit:
            raise QueueFull(f"{self._settings.queue_limit} videos wait or run already, the most here; try again later")

    async def submit(
        self,
        video_id: str,
        record: JobRecord,
        model: ModelReference,
        *,
        request_key: str | None = None,
        reuse: bool = True,
    ) -> str:
        """Puts a job for a stored upload into the queue; once it is there, the upload is the job's to delete.

        model        that the record's options name
        request_key  the request's `Idempotency-Key`: a second request with it is answered by the first one's job
        reuse        whether a graph that is kept may answer, where the operator allows it

        Returns the job's id, which is another than `video_id` for a repeated request; the upload is deleted then.
        Raises QueueFull, and IdempotencyMismatch when a request of that key asked for something else.
        """
        await self.check_room()
        try:
            return await self._submit(video_id, record, model if reuse else None, request_key)
        except BaseException:
            with contextlib.suppress(RedisError):
                async with in_time():
                    await self._queue.records.delete(video_id)
            raise

    async def state(self, video_id: str, owner: str) -> JobState:
        """What is known about a job. Raises NotFound when it never was, was deleted, or is kept no longer."""
        result = await self._result(video_id, owner)
        if result is None:
            async with in_time():
                known = await self._queue.look(video_id)
            if known.record is None or known.record.owner != owner:
                raise not_found(video_id)
            if known.state is not None and known.state not in OVER:
                return JobState.of_queue(video_id, known.state, known.progress)
            result = await self._result(video_id, owner)  # it may have ended between the two looks
            if result is None:
                raise not_found(video_id)
        return JobState.of_result(video_id, result)

    async def wait(self, video_id: str, owner: str, seconds: float) -> bool:
        """Waits until a job is over, at most so long; says whether it is.

        Once the process has been told to stop, it waits only for the jobs of a memory queue, which would be lost.
        Raises Unavailable when the engine of this process dies and such a job with it.
        """
        over = asyncio.ensure_future(self._until_over(video_id, owner))
        in_vain = asyncio.ensure_future((self.lost if self._queue.in_memory else self.stopping).wait())
        try:
            await asyncio.wait({over, in_vain}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                over.result()
                return True
            if self.lost.is_set() and self._queue.in_memory:
                raise Unavailable("the engine has died, and this video with it; post it again")
            return False
        finally:
            for task in (over, in_vain):
                task.cancel()
            await asyncio.wait({over, in_vain})

    async def _until_over(self, video_id: str, owner: str) -> None:
        async for _ in self.events(video_id, owner):
            pass

    async def events(self, video_id: str, owner: str) -> AsyncIterator[JobState]:
        """The states of a job as they change, the present one first, until it is over.

        Goes on when the queue was away for a while. Raises NotFound; once it has begun, a job that is deleted ends as
        cancelled.
        """
        state = await self.state(video_id, owner)
        yield state
        with self._queue.watcher.watching(video_id) as change:
            while not state.is_over:
                try:
                    now = await self._state_or_cancelled(video_id, owner)
                except RedisError:
                    await asyncio.sleep(_RECONNECT_SECONDS)
                    continue
                if now != state:
                    yield now
                    state = now
                    continue
                await change.wait()
                change.clear()

    async def _state_or_cancelled(self, video_id: str, owner: str) -> JobState:
        try:
            return await self.state(video_id, owner)
        except NotFound:
            return JobState(video_id, "cancelled")

    async def delete(self, video_id: str, owner: str) -> None:
        """Cancels a job, wherever it is, and deletes what is kept of it. Raises NotFound."""
        await self.state(video_id, owner)
        async with in_time():
            execution = await self._queue.docket.get_execution(video_id)
            if execution is not None and execution.state not in OVER:
                await self._queue.docket.cancel(video_id)
            record = await self._queue.records.get(video_id)
            await self._queue.records.delete(video_id)
        if execution is not None and execution.state in (ExecutionState.QUEUED, ExecutionState.SCHEDULED):
            # A job that runs counts itself, and deletes its upload when it has stopped reading.
            self._metrics.count_job("cancelled", execution.when)
            if record is not None:
                await self._queue.announce(video_id, record, "cancelled")
            await asyncio.to_thread(self._storage.delete_upload, video_id)
        await asyncio.to_thread(self._storage.delete_result, video_id, owner)
        self._queue.watcher.tell(video_id)

    async def check(self) -> None:
        """Raises Unavailable when the queue does not answer, holds jobs and no worker lives, or none of them moves."""
        backlog = await self._queue.backlog()
        async with answer_in_time():
            workers = await self._queue.docket.workers()
        if backlog.length and not workers:
            raise Unavailable(f"{backlog.length} videos wait and no worker lives; start one with `vsg worker`")
        still = time.monotonic() - self._queue.watcher.moved_at
        if min(backlog.age, still) > self._settings.stall_seconds:
            raise Unavailable(
                f"{backlog.length} videos wait or run, and no worker has moved one for {still:.0f} seconds"
            )

    async def _submit(
        self, video_id: str, record: JobRecord, model: ModelReference | None, request_key: str | None
    ) -> str:
        records, first = self._queue.records, video_id
        async with in_time():  # storage, which may be far away, has no part in the limits here
            await records.create(video_id, record)
            if request_key is not None:
                first = await records.claim_request(record.owner, request_key, video_id)
            if first != video_id:
                await self._repeats(first, record)
                await records.delete(video_id)
        if first != video_id:
            await asyncio.to_thread(self._storage.delete_upload, video_id)
            return first
        if model is None or not await self._answer_from_kept(video_id, record, model):
            async with in_time():
                await self._queue.add(video_id)
        return video_id

    async def _answer_from_kept(self, video_id: str, record: JobRecord, model: ModelReference) -> bool:
        """Gives the job the graph that a like one has made; says whether there was one."""
        if not self._settings.reuse_results:
            return False
        async with in_time():
            like = await self._queue.records.like(record, model)
        if like is None or not await asyncio.to_thread(self._storage.copy_result, like, video_id, record.owner):
            return False
        async with in_time():
            await self._queue.records.keep(video_id)
        await asyncio.to_thread(self._storage.delete_upload, video_id)
        await self._queue.announce(video_id, record, "succeeded")
        self._metrics.jobs.labels("reused").inc()
        return True

    async def _repeats(self, first: str, record: JobRecord) -> None:
        known = await self._queue.records.get(first)
        if known is not None and known != record:
            raise IdempotencyMismatch(
                "a request with this Idempotency-Key has sent another video or other options; use a new key"
            )

    async def _result(self, video_id: str, owner: str) -> StoredResult | None:
        if not VIDEO_ID.fullmatch(video_id):
            raise not_found(video_id)
        result = await asyncio.to_thread(self._storage.result, video_id, owner)
        # What is over its retention is gone, even if it has not been swept yet.
        return result if result is not None and result.age <= self._settings.retention else None

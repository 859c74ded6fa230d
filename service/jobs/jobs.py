"""The API's side of jobs: submits them, tells their state, and returns or deletes their results."""

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
from service.jobs.life import ProcessLife, end_tasks
from service.jobs.queue import JobQueue, answer_in_time, in_time
from service.jobs.records import OVER, STATUS, VIDEO_ID, JobRecord, JobState, not_found
from service.metrics import Metrics
from service.settings import Settings
from service.storage import Storage, StoredResult

_RECONNECT_SECONDS = 0.5


class Jobs:
    """The jobs as the API sees them. `owner` names the caller; the jobs of others are not found.

    All methods raise RedisError when the queue does not answer.

    catalog: the models that can be asked for.
    """

    def __init__(
        self, queue: JobQueue, storage: Storage, settings: Settings, metrics: Metrics, life: ProcessLife
    ) -> None:
        """`life` is that of this process."""
        self.catalog = Catalog(queue.docket)
        self._queue = queue
        self._storage = storage
        self._settings = settings
        self._metrics = metrics
        self._life = life

    async def check_room(self) -> None:
        """Raises QueueFull when the operator's limit of jobs is reached."""
        async with in_time():
            length = await self._queue.length()
        if length >= self._settings.queue_limit:
            raise QueueFull(
                f"{length} videos wait or run, and the limit here is {self._settings.queue_limit}; try again later"
            )

    async def submit(
        self,
        video_id: str,
        record: JobRecord,
        model: ModelReference,
        *,
        request_key: str | None = None,
        reuse: bool = True,
    ) -> str:
        """Puts a job for a stored upload into the queue. From then on the job deletes the upload.

        model: that the record's options name.
        request_key: the request's `Idempotency-Key`; a second request with it gets the job of the first.
        reuse: whether a graph that is kept may answer, if the operator allows it.

        Returns the job's id. For a repeated request it is that of the first job, and the new upload is deleted. Raises
        QueueFull, and IdempotencyMismatch when the first request with this key asked for something else.
        """
        await self.check_room()
        records, first = self._queue.records, video_id
        try:
            async with in_time():  # the limit is for the queue only: storage may be far away
                await records.create(video_id, record)
                if request_key is not None:
                    first = await records.claim_request(record.owner, request_key, video_id)
                if first != video_id:
                    known = await records.get(first)
                    if known is not None and known != record:
                        raise IdempotencyMismatch(
                            "this Idempotency-Key was used with another video or other options; use a new key"
                        )
                    await records.delete(video_id)
            if first != video_id:
                await asyncio.to_thread(self._storage.delete_upload, video_id)
            elif not (reuse and await self._answer_from_kept(video_id, record, model)):
                async with in_time():
                    await self._queue.add(video_id)
            return first
        except BaseException:
            with contextlib.suppress(RedisError):
                async with in_time():
                    await records.delete(video_id)
            raise

    async def state(self, video_id: str, owner: str) -> JobState:
        """The state of a job. Raises NotFound when it does not exist, or no longer."""
        result = await self._result(video_id, owner)
        if result is None:
            async with in_time():
                known = await self._queue.look(video_id)
            if known.record is None or known.record.owner != owner:
                raise not_found(video_id)
            if known.state is not None and known.state not in OVER:
                status = STATUS[known.state]
                return JobState(video_id, status, known.progress if status == "running" else None)
            result = await self._result(video_id, owner)  # it may have ended since
            if result is None:
                raise not_found(video_id)
        return JobState(video_id, "failed" if result.failed else "succeeded", result=result)

    async def wait(self, video_id: str, owner: str, seconds: float) -> bool:
        """Waits at most `seconds` until a job is over. Returns whether it is.

        When the process stops, it no longer waits for jobs that go on without the process, and so only for those of a
        memory queue. Raises NotFound, and Unavailable when such a job is lost because the engine has died.
        """
        in_memory = self._queue.in_memory
        over = asyncio.ensure_future(self._until_over(video_id, owner))
        in_vain = asyncio.ensure_future((self._life.engine_lost if in_memory else self._life.stopping).wait())
        try:
            await asyncio.wait({over, in_vain}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                over.result()
                return True
            if in_memory and in_vain.done():
                raise Unavailable("the engine has died and this video is lost; post it again")
            return False
        finally:
            await end_tasks(over, in_vain)

    async def _until_over(self, video_id: str, owner: str) -> None:
        async for _ in self.events(video_id, owner):
            pass

    async def events(self, video_id: str, owner: str) -> AsyncIterator[JobState]:
        """Yields the present state of a job and then each new one, until the job is over.

        A job that is deleted meanwhile ends as cancelled. If the queue does not answer for a while, the events go on
        afterwards. Raises NotFound before the first state.
        """
        state = await self.state(video_id, owner)
        yield state
        with self._queue.changes.following(video_id) as change:
            while not state.is_over:
                try:
                    now = await self.state(video_id, owner)
                except NotFound:
                    now = JobState(video_id, "cancelled")
                except RedisError:
                    await asyncio.sleep(_RECONNECT_SECONDS)
                    continue
                if now != state:
                    yield now
                    state = now
                    continue
                await change.wait()
                change.clear()

    async def delete(self, video_id: str, owner: str) -> None:
        """Cancels a job that waits or runs, and deletes what is kept of it. Raises NotFound."""
        await self.state(video_id, owner)
        async with in_time():
            execution = await self._queue.docket.get_execution(video_id)
            if execution is not None and execution.state not in OVER:
                await self._queue.docket.cancel(video_id)
            record = await self._queue.records.get(video_id)
            await self._queue.records.delete(video_id)
        if execution is not None and execution.state in (ExecutionState.QUEUED, ExecutionState.SCHEDULED):
            # The worker of a running job counts it, and deletes its upload after the thread has stopped reading.
            self._metrics.count_job("cancelled", execution.when)
            if record is not None:
                await self._queue.announce(video_id, record, "cancelled")
            await asyncio.to_thread(self._storage.delete_upload, video_id)
        await asyncio.to_thread(self._storage.delete_result, video_id, owner)
        self._queue.changes.tell(video_id)

    async def check(self) -> None:
        """Raises Unavailable when the queue does not answer, when it has jobs and no worker, or when nothing moves."""
        backlog = await self._queue.backlog()
        async with answer_in_time():
            workers = await self._queue.docket.workers()
        if backlog.length and not workers:
            raise Unavailable(f"{backlog.length} videos wait and no worker runs; start one with `vsg worker`")
        still = time.monotonic() - self._queue.changes.moved_at
        if min(backlog.age, still) > self._settings.stall_seconds:
            raise Unavailable(
                f"{backlog.length} videos wait or run, and no worker has moved one for {still:.0f} seconds"
            )

    async def _answer_from_kept(self, video_id: str, record: JobRecord, model: ModelReference) -> bool:
        """Gives the job a copy of the graph of an equal job. Returns whether there is one."""
        if not self._settings.reuse_results:
            return False
        async with in_time():
            kept = await self._queue.records.find_result(record, model)
        if kept is None or not await asyncio.to_thread(self._storage.copy_result, kept, video_id, record.owner):
            return False
        async with in_time():
            await self._queue.records.keep(video_id)
        await asyncio.to_thread(self._storage.delete_upload, video_id)
        await self._queue.announce(video_id, record, "succeeded")
        self._metrics.jobs.labels("reused").inc()
        return True

    async def _result(self, video_id: str, owner: str) -> StoredResult | None:
        if not VIDEO_ID.fullmatch(video_id):
            raise not_found(video_id)
        result = await asyncio.to_thread(self._storage.result, video_id, owner)
        # After its retention a result does not exist, even if it has not been swept yet.
        return result if result is not None and result.age <= self._settings.retention else None

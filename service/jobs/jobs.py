"""The API's side of jobs: submits them, tells their state, and returns or deletes their results."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable

import structlog
from docket import ExecutionState
from redis.exceptions import RedisError

from models.graph.scene_graph import ModelReference
from service.errors import StorageUnavailable, Unavailable
from service.jobs.archiving import JobArchive
from service.jobs.catalog import Catalog
from service.jobs.errors import IdempotencyMismatch, NotFound, QueueFull
from service.jobs.life import ProcessLife, end_tasks
from service.jobs.queue import JobQueue, Look, answer_in_time, in_time
from service.jobs.records import OVER, VIDEO_ID, JobRecord, JobState, not_found
from service.jobs.storage_health import StorageHealth
from service.metrics import Metrics
from service.settings import Settings
from service.storage import Storage

_RECONNECT_SECONDS = 0.5

log = structlog.get_logger(__name__)


class Jobs:
    """The jobs as the API sees them. `owner` names the caller; the jobs of others are not found.

    All methods raise RedisError when the queue does not answer.

    catalog: the models that can be asked for.
    """

    def __init__(
        self,
        queue: JobQueue,
        storage: Storage,
        settings: Settings,
        metrics: Metrics,
        life: ProcessLife,
        storage_health: StorageHealth,
    ) -> None:
        """`life` is that of this process."""
        self.catalog = Catalog(queue, memory_seconds=settings.stall_seconds)
        self._storage_health = storage_health
        self._queue = queue
        self._storage = storage
        self._archive = JobArchive(settings.archive, storage)
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
        """Puts a job for a stored upload into the queue. The job deletes the upload; where there is no job, this does.

        model: that the record's options name.
        request_key: the request's `Idempotency-Key`; a second request with it gets the job of the first.
        reuse: whether a graph that is kept may answer, if the operator allows it.

        Returns the job's id. For a repeated request it is that of the first job. Raises QueueFull, IdempotencyMismatch
        when the first request with this key asked for something else, StorageUnavailable, and Unavailable.
        """
        record = record.model_copy(update={"model": model.name})
        try:
            await self.check_room()
            if request_key is not None and (first := await self._find_repeated(record, request_key)):
                await self._drop(video_id)
                return first
            kept = reuse and await self._copy_kept(video_id, record, model)
        except BaseException:
            await self._drop(video_id)
            raise
        accepted = await self._accept(video_id, record, request_key, kept=kept)
        if accepted == video_id:
            if kept:
                await self._drop(video_id)
                await self._queue.announce(video_id, record, "succeeded")
                self._metrics.jobs.labels("reused").inc()
            return video_id
        await self._drop(video_id)
        if kept:
            await self._tidy(self._storage.delete_result, video_id, record.owner)
        if accepted is None:
            raise Unavailable("the upload has waited too long for the queue: send it again")
        # Another request with this key was faster.
        return (request_key and await self._find_repeated(record, request_key)) or accepted

    async def _accept(self, video_id: str, record: JobRecord, request_key: str | None, *, kept: bool) -> str | None:
        accept = self._queue.accept_kept if kept else self._queue.accept
        try:
            async with in_time():  # the limit is for the queue only: storage may be far away
                return await accept(video_id, record, request_key=request_key)
        except BaseException:
            # The queue may have taken the job without a word. If that cannot be undone, the job needs its upload.
            with contextlib.suppress(RedisError):
                async with in_time():
                    await self._queue.records.forget(video_id, await self._queue.now())
                    await self._queue.docket.cancel(video_id)
                await self._drop(video_id)
                await self._tidy(self._storage.delete_result, video_id, record.owner)
            raise

    async def _find_repeated(self, record: JobRecord, request_key: str) -> str | None:
        """The job of the first request with this key, if there is one. Raises IdempotencyMismatch."""
        async with in_time():
            claimed = await self._queue.records.claimed(record.owner, request_key)
        if claimed is None:
            return None
        first, known = claimed
        if known is not None and known.asked != record.asked:
            raise IdempotencyMismatch(
                "this Idempotency-Key was used with another video or other options; use a new key"
            )
        return first

    async def _drop(self, video_id: str) -> None:
        """Deletes an upload that no job needs."""
        await self._tidy(self._storage.delete_upload, video_id)

    async def _tidy(self, delete: Callable[..., object], *arguments: str) -> None:
        """Deletes something that the next sweep deletes otherwise."""
        try:
            await asyncio.to_thread(delete, *arguments)
        except StorageUnavailable as error:
            log.warning("a file is left to the next sweep", detail=error.detail)

    async def state(self, video_id: str, owner: str) -> JobState:
        """The state of a job. Raises NotFound when it does not exist, or no longer; StorageUnavailable."""
        if not VIDEO_ID.fullmatch(video_id):
            raise not_found(video_id)
        async with in_time():
            known = await self._queue.look(video_id)
        return await self._state(video_id, owner, known)

    async def _state(self, video_id: str, owner: str, known: Look) -> JobState:
        if known.is_deleted or (known.is_known and (known.head is None or known.head.owner != owner)):
            raise not_found(video_id)
        if known.is_known and not known.is_over and known.state is not None and known.state not in OVER:
            if known.state is ExecutionState.RUNNING and known.is_taken:
                return JobState(video_id, "running", known.progress)
            return JobState(video_id, "queued")
        result = await asyncio.to_thread(self._storage.result, video_id, owner)
        # Without a record, its retention may be over, or Redis has lost its data: then its age tells.
        if result is None or (not known.is_known and result.age > self._settings.retention):
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

        A job that is deleted meanwhile ends as cancelled. If queue or storage do not answer for a while, the events
        go on afterwards. Raises NotFound before the first state.
        """
        state = await self.state(video_id, owner)
        yield state
        with self._queue.changes.following(video_id) as change:
            while not state.is_over:
                try:
                    now = await self.state(video_id, owner)
                except NotFound:
                    now = JobState(video_id, "cancelled")
                except (RedisError, StorageUnavailable):
                    await asyncio.sleep(_RECONNECT_SECONDS)
                    continue
                if now != state:
                    yield now
                    state = now
                    continue
                await change.wait()
                change.clear()

    async def delete(self, video_id: str, owner: str) -> None:
        """Cancels a job that waits or runs, and deletes what is kept of it, in the archive too.

        Raises NotFound, and StorageUnavailable where the archive cannot delete it.
        """
        async with in_time():
            known = await self._queue.look(video_id)
        try:
            await self._state(video_id, owner, known)
        except NotFound:
            # An archive keeps a graph for longer than its result.
            if known.is_deleted or not await asyncio.to_thread(self._archive.has, video_id, owner):
                raise
        await asyncio.to_thread(self._archive.delete, video_id)
        async with in_time():
            now = await self._queue.now()
            # First the note, then the job: a worker that wakes up later finds it, and does not bring the video back.
            await self._queue.records.forget(video_id, now)
            if known.state is not None and known.state not in OVER:
                await self._queue.docket.cancel(video_id)
        if known.state in (ExecutionState.QUEUED, ExecutionState.SCHEDULED):
            # The worker of a running job counts it, and deletes its upload after the thread has stopped reading.
            self._metrics.count_job("cancelled", None if known.accepted is None else now - known.accepted)
            if known.head is not None:
                await self._queue.announce(video_id, known.head, "cancelled")
            await self._drop(video_id)
        await self._tidy(self._storage.delete_result, video_id, owner)
        self._queue.changes.tell(video_id)

    async def check(self) -> None:
        """Raises Unavailable when a video could not be accepted: queue or storage do not answer, or no model is known.

        Workers that are away or stand still are no reason: videos are accepted and wait, and graphs can be read. Alerts
        tell of them.
        """
        async with answer_in_time():
            await self.catalog.models()
        await self._storage_health.check()

    async def measure(self) -> None:
        """Sets the metric of the workers; NaN while the queue does not answer."""
        try:
            async with answer_in_time():
                self._metrics.workers.set(await self.catalog.living_workers())
        except Unavailable:
            self._metrics.workers.set(math.nan)

    async def _copy_kept(self, video_id: str, record: JobRecord, model: ModelReference) -> bool:
        """Gives the job a copy of the graph of an equal job. Returns whether there is one."""
        if not self._settings.reuse_results:
            return False
        async with in_time():
            kept = await self._queue.records.find_result(record, model)
        return kept is not None and await asyncio.to_thread(self._storage.copy_result, kept, video_id, record.owner)

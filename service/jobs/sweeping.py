"""Sweeps storage: deletes uploads that no job needs, results over their retention, and what was deleted before."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from datetime import timedelta

import structlog
from redis.exceptions import RedisError

from service.errors import StorageUnavailable
from service.jobs.archiving import JobArchive
from service.jobs.life import end_tasks
from service.jobs.queue import JobQueue
from service.settings import Settings
from service.storage import Storage
from service.stored_files import StoredFile

_REMEMBERED_SECONDS = 24 * 3600

log = structlog.get_logger(__name__)


async def sweep_forever(queue: JobQueue, storage: Storage, settings: Settings) -> None:
    """Sweeps every `sweep_seconds`, in one worker of the fleet at a time, until cancelled.

    Not docket's `Perpetual`: as a task of the queue, a sweep would take the place of a video, count against the limit
    of the queue and in its metrics, and a worker that stops would wait for it.
    """
    turn = _Turn(queue, timedelta(seconds=settings.sweep_seconds))
    while True:
        try:
            if await turn.take():
                await turn.keep(sweep(queue, storage, settings))
        except RedisError as error:
            log.warning("storage is not swept: the job queue does not answer", error=str(error))
        except StorageUnavailable as error:
            log.warning("storage is not swept: it does not answer", error=error.detail)
        except Exception:
            log.exception("sweeping failed; trying again later")
        await asyncio.sleep(settings.sweep_seconds)


class _Turn:
    """The turn to sweep, which one worker of a fleet has at a time: a lock in Redis with the word of its holder."""

    def __init__(self, queue: JobQueue, interval: timedelta) -> None:
        """`interval`: after which the turn of a worker that was killed ends."""
        self._queue = queue
        self._interval = interval
        self._key = queue.docket.key("sweeping")
        self._word = secrets.token_hex(8)

    async def take(self) -> bool:
        """Whether it is this worker's turn now. The next one comes after the interval. Raises RedisError."""
        async with self._queue.docket.redis() as redis:
            return bool(await redis.set(self._key, self._word, nx=True, px=self._interval))

    async def keep(self, sweeping: Coroutine[None, None, None]) -> None:
        """Sweeps, and keeps others from it however long it takes. Raises what the sweep raises.

        Stops where another worker has the turn, because this one was silent for too long.
        """
        task = asyncio.create_task(sweeping)
        try:
            while not (await asyncio.wait([task], timeout=self._interval.total_seconds() / 3))[0]:
                async with self._queue.docket.redis() as redis:
                    holder = await redis.get(self._key)
                    if holder is not None and holder.decode(errors="replace") != self._word:
                        log.warning("storage is swept by another worker, since this one was silent for too long")
                        return
                    await redis.set(self._key, self._word, px=self._interval)
            task.result()
        finally:
            await end_tasks(task)


async def sweep(queue: JobQueue, storage: Storage, settings: Settings) -> None:
    """Deletes uploads that no job needs, results over their retention, and what killed processes left behind.

    The archive, if there is one, loses the rows of deleted videos, and is compacted.

    Ages are by the storage's clock, so a worker whose own clock is wrong deletes nothing too early. Raises RedisError
    and StorageUnavailable.
    """
    await asyncio.to_thread(storage.check)  # learns the storage's clock
    kept_seconds = settings.retention + settings.stall_seconds
    deleted = await queue.records.deleted(since=await queue.now() - kept_seconds)
    # The API gives an upload up that has stood still for `upload_idle_seconds`, and touches it as long as it arrives.
    upload_seconds = 2 * settings.upload_idle_seconds
    for upload in await asyncio.to_thread(storage.files, "uploads"):
        if upload.age > upload_seconds and await queue.records.abandon(upload.video_id, _REMEMBERED_SECONDS):
            await asyncio.to_thread(storage.delete, upload)
    longest = max(settings.upload_seconds, settings.url_seconds, settings.decode_seconds + settings.stall_seconds)
    await asyncio.to_thread(storage.end_unfinished, longest)
    await _sweep_results(queue, storage, settings, deleted)


async def _sweep_results(queue: JobQueue, storage: Storage, settings: Settings, deleted: set[str]) -> None:
    """Deletes what is over. A graph stays as long as it answers for any video, as its shares and the queue say."""
    shared: set[str] = set()
    over: list[StoredFile] = []
    for result in await asyncio.to_thread(storage.files, "results"):
        if result.video_id in deleted or await _is_over(result, queue, settings):
            over.append(result)
        elif result.is_share:
            shared.add(result.graph_id)
    for result in over:
        answers = result.is_graph or result.is_frames
        if answers and (result.video_id in shared or not await _retire(result, queue)):
            if result.is_graph and result.video_id in deleted and not result.is_left:
                await asyncio.to_thread(storage.leave_to_others, result.video_id, result.owner)
        else:
            await asyncio.to_thread(storage.delete, result)
    await asyncio.to_thread(JobArchive(settings.archive, storage).sweep, deleted)


async def _retire(result: StoredFile, queue: JobQueue) -> bool:
    """Whether no video needs a graph any more."""
    return await queue.records.retire(result.video_id, await queue.now())


async def _is_over(result: StoredFile, queue: JobQueue, settings: Settings) -> bool:
    if not result.is_unfinished:
        return result.age > settings.retention
    # A graph is written at the end of its job, so the file may be old although the job runs.
    return result.age > settings.stall_seconds and not await queue.records.exists(result.video_id)

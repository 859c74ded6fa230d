"""Sweeps storage: deletes uploads that no job needs, results over their retention, and what was deleted before."""

from __future__ import annotations

import asyncio
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
    interval = timedelta(seconds=settings.sweep_seconds)
    while True:
        try:
            async with queue.docket.redis() as redis:
                is_mine = await redis.set(queue.docket.key("sweeping"), "1", nx=True, px=interval)
            if is_mine:
                await _alone(queue, sweep(queue, storage, settings), interval)
        except RedisError as error:
            log.warning("storage is not swept: the job queue does not answer", error=str(error))
        except StorageUnavailable as error:
            log.warning("storage is not swept: it does not answer", error=error.detail)
        except Exception:
            log.exception("sweeping failed; trying again later")
        await asyncio.sleep(settings.sweep_seconds)


async def _alone(queue: JobQueue, sweeping: Coroutine[None, None, None], interval: timedelta) -> None:
    """Sweeps, and keeps others from it however long it takes. Raises what the sweep raises."""
    task = asyncio.create_task(sweeping)
    try:
        while not (await asyncio.wait([task], timeout=interval.total_seconds() / 3))[0]:
            async with queue.docket.redis() as redis:
                await redis.set(queue.docket.key("sweeping"), "1", px=interval)
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
    for result in await asyncio.to_thread(storage.files, "results"):
        if result.video_id in deleted or await _is_over(result, queue, settings):
            await asyncio.to_thread(storage.delete, result)
    await asyncio.to_thread(JobArchive(settings.archive, storage).sweep, deleted)


async def _is_over(result: StoredFile, queue: JobQueue, settings: Settings) -> bool:
    if not result.is_unfinished:
        return result.age > settings.retention
    # A graph is written at the end of its job, so the file may be old although the job runs.
    return result.age > settings.stall_seconds and not await queue.records.exists(result.video_id)

"""Deletes what nobody will ask for again: results over their retention, and what killed processes left behind."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from redis.exceptions import RedisError

from service.jobs.queue import JobQueue
from service.jobs.state import OVER
from service.settings import Settings
from service.storage import Storage, StoredFile

log = structlog.get_logger(__name__)


async def sweep_forever(queue: JobQueue, storage: Storage, settings: Settings) -> None:
    """Sweeps now and then, one worker of the fleet at a time, until cancelled."""
    interval = timedelta(seconds=settings.sweep_seconds)
    while True:
        try:
            async with queue.docket.redis() as redis:
                is_mine = await redis.set(queue.docket.key("sweeping"), "1", nx=True, px=interval)
            if is_mine:
                await sweep(queue, storage, settings)
        except RedisError as error:
            log.warning("nothing swept: the job queue does not answer", error=str(error))
        except Exception:  # storage may fail in ways of its own; the next round may find it well
            log.exception("sweeping failed; it is tried again")
        await asyncio.sleep(settings.sweep_seconds)


async def sweep(queue: JobQueue, storage: Storage, settings: Settings) -> None:
    """Deletes uploads of jobs that have ended or never came to be, and results over their retention."""
    for upload in await asyncio.to_thread(storage.files, "uploads"):
        # An upload of which nothing arrives for so long has been given up.
        if upload.age > settings.upload_idle_seconds and not await _has_job(queue, upload):
            await asyncio.to_thread(storage.delete, upload)
    for result in await asyncio.to_thread(storage.files, "results"):
        if result.age > (settings.stall_seconds if result.is_unfinished else settings.retention):
            await asyncio.to_thread(storage.delete, result)


async def _has_job(queue: JobQueue, upload: StoredFile) -> bool:
    execution = await queue.docket.get_execution(upload.video_id)
    return execution is not None and execution.state not in OVER

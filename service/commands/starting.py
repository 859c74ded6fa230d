"""Checks that a service can work with its queue and its storage, before it loads models."""

from __future__ import annotations

import asyncio

import structlog
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from service.errors import SettingsError
from service.jobs import JobQueue, StorageHealth
from service.jobs.archiving import JobArchive
from service.jobs.queue import in_time
from service.metrics import Metrics
from service.settings import Settings, variable_of
from service.storage import Storage

_WAIT_SECONDS = 2.0

log = structlog.get_logger(__name__)


async def check_start(settings: Settings, *, waits: bool) -> None:
    """Checks queue and storage. A storage that is full is no reason not to start.

    waits: whether to wait for a queue that does not answer; an API answers 503 meanwhile instead.

    Raises SettingsError where Redis refuses this service, or where the storage cannot be used or is not the fleet's.
    """
    storage = None if settings.data is None else Storage(settings.data)
    if storage is not None:
        await asyncio.to_thread(JobArchive(settings.archive, storage).make)
    while True:
        try:
            await _check(settings, storage)
            return
        except (AuthenticationError, ResponseError) as error:
            raise SettingsError(
                f"Redis at {variable_of('queue_url')} refuses this service ({error}): correct user, password and number"
            ) from error
        except RedisError as error:
            log.warning("the job queue does not answer", error=str(error), waiting=waits)
            if not waits:
                return
        await asyncio.sleep(_WAIT_SECONDS)


async def _check(settings: Settings, storage: Storage | None) -> None:
    metrics = Metrics()
    queue = JobQueue(settings, metrics)
    async with queue.docket:  # without its watcher and its webhooks
        async with in_time():
            await queue.length()
        if storage is not None:
            await StorageHealth(storage, queue, metrics).begin()

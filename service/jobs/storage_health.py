"""The health of the storage, asked seldom: a look at it writes a file."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time

import structlog
from redis.exceptions import RedisError

from service.errors import SettingsError, StorageElsewhere, StorageFull, StorageUnavailable
from service.jobs.archiving import JobArchive
from service.jobs.queue import JobQueue, in_time
from service.metrics import Metrics
from service.storage import Storage
from service.storage_errors import remedy_of

_KNOWN_SECONDS = 2.0  # for which an answer holds
_ANSWER_SECONDS = 5.0
_START_SECONDS = 30.0
_MAKING_SECONDS = 20.0  # for another process to make the storage, which may be far away
_PAUSE_SECONDS = 0.2

log = structlog.get_logger(__name__)


class StorageHealth:
    """Tells whether the storage of this process answers, and keeps the metric of it. A process has one.

    It makes a storage that is new. A fleet has one storage, whose mark is in Redis too: so a process that starts while
    the disk is not mounted makes none in its place.
    """

    def __init__(self, storage: Storage, queue: JobQueue, metrics: Metrics, archive: JobArchive | None = None) -> None:
        """`archive` is part of the storage where there is one."""
        self._storage = storage
        self._archive = archive
        self._queue = queue
        self._metrics = metrics
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = -_KNOWN_SECONDS
        self._error: StorageUnavailable | None = None

    async def check(self, seconds: float = _ANSWER_SECONDS) -> None:
        """Raises StorageUnavailable, or StorageFull, when the storage does not answer within that time."""
        if self._looking is None and time.monotonic() - self._looked_at > _KNOWN_SECONDS:
            # One look at a time: a storage that hangs would otherwise keep all threads.
            self._looking = asyncio.create_task(self._look(), name="vsg storage")
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=seconds)
        if self._looking is not None:
            self._metrics.storage_up.set(0)
            raise StorageUnavailable(f"the storage of videos and graphs does not answer within {seconds:g} seconds")
        if self._error is not None:
            raise self._error

    async def measure(self) -> None:
        """Sets the metric. At a start, it makes a storage that is new."""
        with contextlib.suppress(StorageUnavailable):
            await self.check()

    async def begin(self) -> None:
        """Makes a storage that is new, and refuses to start with one that cannot be used; a full one is waited for.

        Raises SettingsError, which names the setting, its value and the remedy.
        """
        try:
            await self.check(_START_SECONDS)
        except StorageFull:
            pass
        except StorageElsewhere as error:
            raise SettingsError(
                f"VSG_DATA is {self._storage.url!r}, which is not the storage of the other processes: give all the "
                "same, and mount its disk; where that storage is lost for good, delete `vsg:storage` in Redis"
            ) from error
        except StorageUnavailable as error:
            if not isinstance(error.__cause__, RedisError):  # the job queue is waited for
                raise SettingsError(f"VSG_DATA is {self._storage.url!r}: {remedy_of(error)}") from error

    async def _look(self) -> None:
        try:
            await self._find_or_make()
            await asyncio.to_thread(self._storage.check)
            if self._archive is not None:
                await asyncio.to_thread(self._archive.check)
            self._error = None
        except StorageUnavailable as error:
            self._error = error
        finally:
            self._metrics.storage_up.set(self._error is None)
            self._looked_at = time.monotonic()
            self._looking = None

    async def _find_or_make(self) -> None:
        mark = await asyncio.to_thread(self._storage.mark)
        try:
            async with in_time():  # the limit is for the queue only: storage may be far away
                known = await self._queue.storage_mark(mark)
            if mark is None:
                mark = await self._made() if known is None else await self._until_made()
                async with in_time():
                    known = await self._queue.storage_mark(mark)
        except RedisError as error:
            if mark is None:
                raise StorageUnavailable("the storage has no mark, and the job queue cannot tell it") from error
            return
        if mark is None:
            log.warning("the storage has no mark: its disk is not mounted, or VSG_DATA is not that of the fleet")
            raise StorageElsewhere("the storage of videos and graphs is away: try again in a moment")
        if mark != known:
            log.error("the storage is not that of the fleet: VSG_DATA must be the same for all processes")
            raise StorageElsewhere("the storage of this process is not that of the fleet")

    async def _made(self) -> str | None:
        """Makes a storage that is new, unless another process does. Returns its mark."""
        mark = secrets.token_hex(16)
        async with in_time():
            is_mine = await self._queue.claim_storage(mark)
        if not is_mine:
            return await self._until_made()
        await asyncio.to_thread(self._storage.make, mark)
        return mark

    async def _until_made(self) -> str | None:
        """Waits for the mark of a storage that another process makes now; None where none does, or not this one."""
        end = time.monotonic() + _MAKING_SECONDS
        while True:
            async with in_time():  # first: the storage is there before its claim is over
                is_claimed = await self._queue.is_storage_claimed()
            mark = await asyncio.to_thread(self._storage.mark)
            if mark is not None or not is_claimed or time.monotonic() > end:
                return mark
            await asyncio.sleep(_PAUSE_SECONDS)

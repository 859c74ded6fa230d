"""The health of the storage, asked seldom: a look at it writes a file."""

from __future__ import annotations

import asyncio
import contextlib
import time

from service.errors import StorageUnavailable
from service.metrics import Metrics
from service.storage import Storage

_KNOWN_SECONDS = 2.0  # for which an answer holds
_ANSWER_SECONDS = 5.0


class StorageHealth:
    """Tells whether the storage of this process answers, and keeps the metric of it. A process has one."""

    def __init__(self, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._metrics = metrics
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = -_KNOWN_SECONDS
        self._error: StorageUnavailable | None = None

    async def check(self) -> None:
        """Raises StorageUnavailable, or StorageFull, when the storage does not answer within 5 seconds."""
        if self._looking is None and time.monotonic() - self._looked_at > _KNOWN_SECONDS:
            # One look at a time: a storage that hangs would otherwise keep all threads.
            self._looking = asyncio.create_task(self._look(), name="vsg storage")
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=_ANSWER_SECONDS)
        if self._looking is not None:
            self._metrics.storage_up.set(0)
            raise StorageUnavailable(
                f"the storage of videos and graphs does not answer within {_ANSWER_SECONDS:g} seconds"
            )
        if self._error is not None:
            raise self._error

    async def measure(self) -> None:
        """Sets the metric."""
        with contextlib.suppress(StorageUnavailable):
            await self.check()

    async def _look(self) -> None:
        try:
            await asyncio.to_thread(self._storage.check)
            self._error = None
        except StorageUnavailable as error:
            self._error = error
        finally:
            self._metrics.storage_up.set(self._error is None)
            self._looked_at = time.monotonic()
            self._looking = None

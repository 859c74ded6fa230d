"""Frees the memory of keys that have expired in a memory queue.

Redis does so by itself. The server of a memory queue hides such a key at once, but keeps it until somebody asks for it,
and nobody asks for the record of a video that is over.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from docket import Docket


class ExpiredKeys:
    """The expired keys of one memory queue. It knows them by their names, so it remembers which keys it has seen."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket
        self._seen: frozenset[bytes] = frozenset()

    async def free(self) -> None:
        """Frees the keys that the last call has seen and that have expired since."""
        async with self._docket.redis() as redis:
            names = frozenset(await redis.keys("*"))
            for name in self._seen - names:
                await redis.ttl(name)  # asks for it
        self._seen = names

    async def free_forever(self, interval: timedelta) -> None:
        """Frees what has expired at this interval, until cancelled. A key that lives for less may be missed."""
        while True:
            await self.free()
            await asyncio.sleep(interval.total_seconds())

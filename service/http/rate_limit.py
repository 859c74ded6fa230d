"""Limits how often one caller may post a video or ask for a caption."""

from __future__ import annotations

import math
import time

from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from service.errors import SettingsError, Unavailable
from service.http.errors import RateLimited
from service.settings import MEMORY_QUEUE, variable_of

_REDIS_SECONDS = 5.0  # after which Redis is taken not to answer


class RateLimit:
    """Counts requests by caller: in Redis, where the queue is there, so that all API processes count together."""

    def __init__(self, limit: str, queue_url: str) -> None:
        """Raises SettingsError where the limit cannot be read or the queue's Redis cannot count."""
        try:
            self._limit = parse(limit)
        except ValueError as error:
            raise SettingsError(
                f"{variable_of('rate_limit')} is {limit!r}: give a number and a time, such as 60/minute or 1000/day"
            ) from error
        self._pool = None if queue_url.startswith(MEMORY_QUEUE) else _redis_pool(queue_url)
        self._limiter = MovingWindowRateLimiter(MemoryStorage() if self._pool is None else _redis_storage(self._pool))

    async def take(self, caller: str) -> None:
        """Counts one more. Raises RateLimited where it is one too many, Unavailable where Redis does not answer."""
        try:
            if await self._limiter.hit(self._limit, caller):
                return
            window = await self._limiter.get_window_stats(self._limit, caller)
        except RedisError as error:
            raise Unavailable("the service cannot reach its queue: try again later") from error
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        raise RateLimited(f"this service takes {self._limit} from one caller: try again in {seconds} s", seconds)

    async def close(self) -> None:
        """Closes the connections to Redis."""
        if self._pool is not None:
            await self._pool.aclose()


def _redis_pool(url: str) -> ConnectionPool:
    try:
        return ConnectionPool.from_url(url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS)
    except ValueError as error:
        raise SettingsError(
            f"{variable_of('rate_limit')} needs a queue at one Redis server (redis://, rediss://, unix://) or "
            "memory://: leave it empty with others"
        ) from error


def _redis_storage(pool: ConnectionPool) -> RedisStorage:
    # With a pool the address is not used; the types do not know of the pool.
    return RedisStorage("async+redis://", implementation="redispy", key_prefix="vsg:rate", connection_pool=pool)  # type: ignore[arg-type]

"""How often one caller may post."""

from __future__ import annotations

import math
import time

from fastapi import Request
from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from service.access import ANONYMOUS
from service.errors import SettingsError, Unavailable
from service.http.access import owner_of
from service.http.errors import RateLimited
from service.http.state import service_of
from service.settings import ENV_PREFIX, MEMORY_QUEUE

_REDIS_SECONDS = 5.0  # an answer that takes Redis longer than this does not come


class RateLimit:
    """Counts what every caller does, in Redis where the queue is there, so that all API processes count together."""

    def __init__(self, limit: str, queue_url: str) -> None:
        """Raises SettingsError when the limit cannot be read or the queue's Redis cannot count."""
        try:
            self._limit = parse(limit)
        except ValueError as error:
            raise SettingsError(
                f"{ENV_PREFIX}RATE_LIMIT is {limit!r}, but must be like 60/minute or 1000/day"
            ) from error
        self._pool = None if queue_url.startswith(MEMORY_QUEUE) else _redis_pool(queue_url)
        self._limiter = MovingWindowRateLimiter(MemoryStorage() if self._pool is None else _redis_storage(self._pool))

    async def take(self, caller: str) -> None:
        """Counts one more. Raises RateLimited when it is one too many, Unavailable when Redis does not answer."""
        try:
            if await self._limiter.hit(self._limit, caller):
                return
            window = await self._limiter.get_window_stats(self._limit, caller)
        except RedisError as error:
            raise Unavailable("the service cannot reach its queue; try again later") from error
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        raise RateLimited(f"this service takes {self._limit} from one caller; try again in {seconds} s", seconds)

    async def close(self) -> None:
        """Gives the connections to Redis back."""
        if self._pool is not None:
            await self._pool.aclose()


async def limit_rate(request: Request) -> None:
    """Refuses a request when its caller has sent too many; a dependency of routes that make work."""
    rate_limit = service_of(request).rate_limit
    if rate_limit is None:
        return
    owner = owner_of(request)
    if owner == ANONYMOUS and request.client is not None:
        owner = f"{ANONYMOUS} {request.client.host}"
    await rate_limit.take(owner)


def _redis_pool(url: str) -> ConnectionPool:
    try:
        return ConnectionPool.from_url(url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS)
    except ValueError as error:
        raise SettingsError(
            f"{ENV_PREFIX}RATE_LIMIT needs a queue at one Redis server (redis://, rediss://, unix://), or memory://; "
            f"leave it empty with others"
        ) from error


def _redis_storage(pool: ConnectionPool) -> RedisStorage:
    # The address is not used beside a pool, which the types do not know of.
    return RedisStorage("async+redis://", implementation="redispy", key_prefix="vsg:rate", connection_pool=pool)  # type: ignore[arg-type]

"""Access: lets in the requests that bear a key, and limits those that cause work."""

from __future__ import annotations

import math
import time

from fastapi import Request
from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ServiceError, SettingsError, Unavailable
from service.http.errors import KeyMissing, KeyWrong, RateLimited
from service.http.middleware import ErrorHandlers, path_of
from service.http.pages import PAGE_PATHS
from service.jobs.connection import lasting
from service.keys import ANONYMOUS, Keys
from service.settings import MEMORY_QUEUE, variable_of

_REDIS_SECONDS = 5.0  # after which Redis is taken not to answer
# Probes have no key. The page is the same for everybody, and asks for the key itself.
FREE_PATHS = PAGE_PATHS | {"/health/live", "/health/ready"}


class RequireKey:
    """Middleware that asks every request for its key, except on `FREE_PATHS`, and notes its owner for `owner_of`.

    It stands before the routes: none can be forgotten, and without a key nobody learns which routes exist.
    """

    def __init__(self, app: ASGIApp, keys: Keys | None, errors: ErrorHandlers) -> None:
        self._app = app
        self._keys = keys
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            request.state.owner = self._owner(request)
        except ServiceError as error:
            await self._errors.answer(request, error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _owner(self, request: Request) -> str:
        if self._keys is None or path_of(request.scope) in FREE_PATHS:
            return ANONYMOUS
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise KeyMissing("this service needs a key: send the header `Authorization: Bearer KEY`")
        owner = self._keys.owner(key.strip())
        if owner is None:
            raise KeyWrong("the key of this request is not known or no longer valid: ask the operator for another")
        return owner


def owner_of(request: Request) -> str:
    """The name of the request's key, or `ANONYMOUS`."""
    owner: str = request.state.owner
    return owner


class RateLimit:
    """Counts how often each caller has posted a video or a rule, or asked for a caption or a search.

    Where the queue is in Redis, it counts there, so that all API processes count together.
    """

    def __init__(self, limit: str, queue_url: str) -> None:
        """Raises SettingsError where the limit cannot be read or the queue's Redis cannot count."""
        try:
            self._limit = parse(limit)
            if self._limit.amount < 1 or self._limit.get_expiry() < 1:
                raise ValueError("it lets nobody in")
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
        limits = lasting(socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS, timeout=_REDIS_SECONDS)
        return BlockingConnectionPool.from_url(url, **limits)
    except ValueError as error:
        raise SettingsError(
            f"{variable_of('rate_limit')} needs a queue at one Redis server (redis://, rediss://, unix://) or "
            "memory://: leave it empty with others"
        ) from error


def _redis_storage(pool: ConnectionPool) -> RedisStorage:
    # With a pool the address is not used; the types do not know of the pool.
    return RedisStorage("async+redis://", implementation="redispy", key_prefix="vsg:rate", connection_pool=pool)  # type: ignore[arg-type]

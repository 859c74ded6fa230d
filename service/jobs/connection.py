"""Connections to Redis: few, kept, and made anew after Redis was away."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Self

from docket import Docket
from docket._redis import BLOCKING_READ_SOCKET_TIMEOUT, CONNECT_TIMEOUT, RedisConnection
from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from service.jobs.expired_keys import ExpiredKeys
from service.jobs.life import end_tasks

_MOST_CONNECTIONS = 64  # at once; who needs another waits for one
_FREE_INTERVAL = timedelta(seconds=30)


def lasting(**settings: Any) -> dict[str, Any]:
    """Settings of a pool whose connections outlive a restart of Redis.

    With the client's own, a pool hands out connections that Redis has closed, and each fails once. It looks for closed
    ones only where notices of maintenance are off. A command is sent again on one that is closed at that moment.
    """
    return {
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "retry": Retry(NoBackoff(), 1),
        **settings,
    }


class LastingDocket(Docket):
    """A queue of docket's with connections that last. The URL may name its own `max_connections`.

    Whether it is in Redis or in memory, it takes no more memory for keys that have expired.
    """

    def __init__(self, name: str, url: str, **rest: Any) -> None:
        super().__init__(name=name, url=url, **rest)
        self._redis = _Connections(url)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._redis.is_memory:
            interval = min(_FREE_INTERVAL, self.execution_ttl / 2)  # keys of jobs live for `execution_ttl`
            freeing = asyncio.create_task(ExpiredKeys(self).free_forever(interval), name="vsg expired keys")
            self._stack.push_async_callback(end_tasks, freeing)
        return self


class _Connections(RedisConnection):
    """Private in docket, but its own pool keeps every connection that it ever needed, and fails beyond a number."""

    async def _connection_pool_from_url(
        self, decode_responses: bool = False, protocol: int | None = None
    ) -> ConnectionPool:
        if self.is_sentinel:  # it finds its server anew by itself
            return await super()._connection_pool_from_url(decode_responses, protocol)
        return BlockingConnectionPool.from_url(
            self.url,
            **lasting(
                decode_responses=decode_responses,
                socket_timeout=BLOCKING_READ_SOCKET_TIMEOUT,
                socket_connect_timeout=CONNECT_TIMEOUT,
                max_connections=_MOST_CONNECTIONS,
                timeout=None,  # a limit of time is the caller's
                **({} if protocol is None else {"protocol": protocol}),
            ),
        )

"""A memory queue gives back the memory of what has expired."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psutil

from service.jobs.connection import LastingDocket
from service.jobs.expired_keys import ExpiredKeys

KEYS, KEY_BYTES = 2000, 20_000
LIFE = timedelta(seconds=1)


async def fill(docket: LastingDocket, turn: int) -> None:
    async with docket.redis() as redis:
        for number in range(KEYS):
            await redis.set(docket.key(f"{turn}:{number}"), bytes(KEY_BYTES), px=LIFE)


async def test_a_memory_queue_takes_no_more_memory_for_keys_that_have_expired() -> None:
    memory = []
    async with LastingDocket("vsg", "memory://expired", execution_ttl=LIFE) as docket:
        for turn in range(4):
            await fill(docket, turn)
            memory.append(psutil.Process().memory_info().rss)
            await asyncio.sleep(1.6 * LIFE.total_seconds())
    assert memory[-1] - memory[1] < KEYS * KEY_BYTES, "less than the keys of one turn of two"


async def test_keys_that_live_on_stay() -> None:
    async with LastingDocket("vsg", "memory://lives", execution_ttl=timedelta(hours=1)) as docket:
        expired_keys = ExpiredKeys(docket)
        async with docket.redis() as redis:
            for name in ("short", "renewed"):
                await redis.set(name, "1", px=timedelta(milliseconds=50))
            await redis.set("long", "2", px=timedelta(hours=1))
            await redis.set("lasting", "3")
            await expired_keys.free()
            await asyncio.sleep(0.1)
            await redis.set("renewed", "4")
            await expired_keys.free()
            kept = [await redis.get(name) for name in ("short", "renewed", "long", "lasting")]
    assert kept == [None, b"4", b"2", b"3"]

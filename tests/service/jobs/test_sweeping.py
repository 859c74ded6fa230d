"""One worker of a fleet sweeps at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from service.jobs import JobQueue
from service.jobs.sweeping import _Turn
from service.metrics import Metrics
from tests.service.jobs.process import settings_of

INTERVAL = timedelta(seconds=1)


async def test_only_one_worker_has_the_turn_however_long_its_sweep_takes(redis_url: str, tmp_path: Path) -> None:
    async with JobQueue(settings_of(tmp_path, redis_url), Metrics()) as queue:
        turn, other = _Turn(queue, INTERVAL), _Turn(queue, INTERVAL)
        assert await turn.take()
        sweeping = asyncio.create_task(turn.keep(asyncio.sleep(2.5)))
        while not sweeping.done():
            assert not await other.take()
            await asyncio.sleep(0.1)
        await sweeping
        await asyncio.sleep(1.1)
        assert await other.take(), "the turn ends with the interval"


async def test_a_worker_that_was_silent_for_too_long_sweeps_no_more(redis_url: str, tmp_path: Path) -> None:
    async with JobQueue(settings_of(tmp_path, redis_url), Metrics()) as queue:
        turn, other = _Turn(queue, INTERVAL), _Turn(queue, timedelta(minutes=5))
        assert await turn.take()
        await asyncio.sleep(1.1)
        assert await other.take()
        ended = asyncio.Event()

        async def sweep() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        await asyncio.wait_for(turn.keep(sweep()), 55)
        assert ended.is_set()
        async with queue.docket.redis() as client:
            assert (await client.get(queue.docket.key("sweeping"))) == other._word.encode(), "it is left to the other"

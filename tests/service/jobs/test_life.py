"""The life of a process: running, stopping, without its engine."""

from __future__ import annotations

import asyncio
import threading

import pytest

from service.jobs import ProcessLife


async def test_an_engine_that_dies_in_another_thread_ends_the_life() -> None:
    async with ProcessLife() as life:
        over = asyncio.create_task(life.until_over())
        await asyncio.sleep(0.01)
        assert not over.done()
        threading.Thread(target=life.lose_engine).start()
        await asyncio.wait_for(over, 10)
        assert life.engine_lost.is_set()
        assert not life.stopping.is_set()


async def test_stopping_ends_the_life_with_the_engine_alive() -> None:
    async with ProcessLife() as life:
        life.stop()
        await asyncio.wait_for(life.until_over(), 10)
        assert not life.engine_lost.is_set()


def test_an_engine_that_dies_before_there_is_an_event_loop_is_not_forgotten() -> None:
    life = ProcessLife()
    life.lose_engine()

    async def live() -> bool:
        async with life:
            await asyncio.wait_for(life.until_over(), 10)
            return life.engine_lost.is_set()

    assert asyncio.run(live())


async def test_an_engine_may_die_after_the_event_loop_has_left_the_life() -> None:
    async with ProcessLife() as life:
        pass
    life.lose_engine()


async def test_waiting_for_the_end_can_be_cancelled() -> None:
    async with ProcessLife() as life:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(life.until_over(), 0.05)

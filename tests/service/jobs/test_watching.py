"""Whoever waits for a job is woken by what becomes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.service.jobs.process import ME, OPTIONS, process

AFTER_THE_END = OPTIONS.model_copy(update={"start": 100.0})


@pytest.fixture(params=["memory", "redis"])
def queue_url(request: pytest.FixtureRequest) -> str:
    url: str = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    return url


async def test_a_job_that_fails_without_progress_wakes_who_waits(
    queue_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, queue_url) as running:
        video_id = await running.submit(clip, options=AFTER_THE_END)
        assert await running.jobs.wait(video_id, ME, 100)
        assert (await running.jobs.state(video_id, ME)).status == "failed"


@pytest.mark.usefixtures("slow_engine")
async def test_a_job_that_is_deleted_wakes_all_who_follow_it(
    queue_url: str, tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, queue_url) as running:
        video_id = await running.submit(long_clip)
        waits = [asyncio.create_task(running.jobs.wait(video_id, ME, 100)) for _ in range(3)]
        await asyncio.sleep(0.2)
        await running.jobs.delete(video_id, ME)
        assert await asyncio.gather(*waits) == [True] * 3


@pytest.mark.usefixtures("slow_engine")
async def test_a_process_that_stops_waits_only_for_jobs_that_would_be_lost(
    queue_url: str, tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, queue_url) as running:
        video_id = await running.submit(long_clip)
        waits = asyncio.create_task(running.jobs.wait(video_id, ME, 100))
        await asyncio.sleep(0.2)
        running.life.stop()
        if queue_url == "memory://":
            await running.jobs.delete(video_id, ME)
        assert await asyncio.wait_for(waits, 30) == (queue_url == "memory://")

"""Jobs on a real Redis outlive the process that works on them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from models.engines.onnxruntime import OnnxRuntimeCpu
from service.errors import Unavailable
from service.jobs import JobRecord
from tests.service.jobs.process import ME, OPTIONS, Process, process
from tests.service.jobs.test_webhooks import until_true


async def until_it_makes_progress(running: Process, video_id: str) -> None:
    async for state in running.jobs.events(video_id, ME):
        if state.progress is not None and state.progress.frames:
            return


async def test_another_worker_does_a_job_whose_engine_has_died(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(self: OnnxRuntimeCpu, tensors: Any) -> Any:
        raise SystemExit("the driver is gone")

    async with process(tiny_bundle, tmp_path, redis_url) as first:
        with monkeypatch.context() as patched:
            patched.setattr(OnnxRuntimeCpu, "run", dies)
            video_id = await first.submit(clip)
            await asyncio.wait_for(first.life.engine_lost.wait(), 30)
            with pytest.raises(Unavailable):
                await first.worker.check()
            assert not first.worker.is_alive
            assert (await first.jobs.state(video_id, ME)).status == "running", "nobody is told that it failed"
    assert len(list((tmp_path / "uploads").iterdir())) == 1
    async with process(tiny_bundle, tmp_path, redis_url) as second:
        assert await second.jobs.wait(video_id, ME, 60)
        state = await second.jobs.state(video_id, ME)
        assert state.status == "succeeded"
        assert state.result is not None
        assert json.loads(state.result.read())["id"] == video_id
        await until_true(lambda: not list((tmp_path / "uploads").iterdir()))


@pytest.mark.usefixtures("slow_engine")
async def test_a_worker_that_stops_hands_back_its_jobs(
    redis_url: str, tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, redis_url) as first:
        video_id = await first.submit(long_clip)
        await until_it_makes_progress(first, video_id)
        began = time.monotonic()
    assert time.monotonic() - began < 5, "it does not finish the video first"
    assert not list((tmp_path / "results").rglob("*.*"))
    async with process(tiny_bundle, tmp_path, redis_url) as second:
        assert await second.jobs.wait(video_id, ME, 60)
        assert (await second.jobs.state(video_id, ME)).status == "succeeded"


@pytest.mark.usefixtures("slow_engine")
async def test_a_worker_that_stops_does_not_begin_a_job_that_waits_to_run_alone(
    redis_url: str, tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, redis_url) as first:
        await until_it_makes_progress(first, await first.submit(long_clip))
        records, suspicious = first.queue.records, "0" * 32
        async with first.queue.docket.redis() as client:
            await client.hset(records.key(suspicious), mapping={"crashes": 2})
        (tmp_path / "uploads" / suspicious).write_bytes(long_clip.read_bytes())
        await first.queue.accept(suspicious, JobRecord(owner=ME, sha256="0" * 64, options=OPTIONS))
        async for state in first.jobs.events(suspicious, ME):
            if state.status == "running":
                break
        await asyncio.sleep(0.2)
        async with first.queue.docket.redis() as client:
            assert await client.hget(records.key(suspicious), "begun") is None, "it waits"
    with redis.Redis.from_url(redis_url) as left:
        (key,) = left.keys(f"*video:{suspicious}")
        assert int(left.hget(key, "begun") or 0) == 0
    async with process(tiny_bundle, tmp_path, redis_url) as second:
        assert await second.jobs.wait(suspicious, ME, 120)
        assert (await second.jobs.state(suspicious, ME)).status == "succeeded"

"""Jobs on a real Redis, where they outlive the process that works on them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from models.engines.onnxruntime import OnnxRuntimeCpu
from service.errors import Unavailable
from tests.service.jobs.process import ME, process
from tests.service.jobs.test_webhooks import until_true


async def test_a_job_whose_engine_dies_goes_back_to_the_queue_and_another_worker_does_it(
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
async def test_a_worker_that_is_stopped_hands_back_what_it_holds(
    redis_url: str, tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, redis_url) as first:
        video_id = await first.submit(long_clip)
        async for state in first.jobs.events(video_id, ME):
            if state.progress is not None and state.progress.frames:
                break
        began = time.monotonic()
    assert time.monotonic() - began < 5, "it does not finish the video first"
    assert not list((tmp_path / "results").rglob("*.*"))
    async with process(tiny_bundle, tmp_path, redis_url) as second:
        assert await second.jobs.wait(video_id, ME, 60)
        assert (await second.jobs.state(video_id, ME)).status == "succeeded"

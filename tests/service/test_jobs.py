"""Jobs on a real Redis, where they outlive the process that works on them."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from models.engines.onnxruntime import OnnxRuntimeCpu
from service.batching import load_engines
from service.errors import Unavailable
from service.jobs import Jobs
from service.metrics import Metrics
from service.options import VideoOptions
from service.pipeline import Pipeline
from service.settings import load_settings
from service.storage import Storage


@asynccontextmanager
async def worker(bundle: Path, folder: Path, queue: str) -> AsyncIterator[Jobs]:
    """Takes and does jobs, as a process of the service would."""
    settings = load_settings({"bundles": (bundle,), "queue_url": queue, "lease_seconds": 2, "threads": 1})
    pipeline = Pipeline(load_engines([bundle], settings), settings)
    try:
        async with Jobs(pipeline, Storage(str(folder)), settings, Metrics()) as jobs:
            yield jobs
    finally:
        pipeline.close()


async def submit(jobs: Jobs, folder: Path, video: Path) -> str:
    video_id = secrets.token_hex(16)
    content = video.read_bytes()
    upload = Storage(str(folder)).open_upload(video_id)
    upload.write(content)
    upload.close()
    await jobs.submit(video_id, hashlib.sha256(content).hexdigest(), VideoOptions(fps=1))
    return video_id


async def test_a_job_whose_engine_dies_goes_back_to_the_queue_and_another_worker_does_it(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(self: OnnxRuntimeCpu, tensors: Any) -> Any:
        raise SystemExit("the driver is gone")

    async with worker(tiny_bundle, tmp_path, redis_url) as first:
        with monkeypatch.context() as patched:
            patched.setattr(OnnxRuntimeCpu, "run", dies)
            video_id = await submit(first, tmp_path, clip)
            assert not await first.wait(video_id, 30)
            with pytest.raises(Unavailable):
                await first.check()
            assert not first.is_alive
            assert (await first.state(video_id)).status == "running", "nobody is told that it failed"
    assert len(list((tmp_path / "uploads").iterdir())) == 1
    async with worker(tiny_bundle, tmp_path, redis_url) as second:
        assert await second.wait(video_id, 60)
        state = await second.state(video_id)
        assert state.status == "succeeded"
        assert state.result is not None
        assert json.loads(state.result.read())["id"] == video_id
    assert not list((tmp_path / "uploads").iterdir())


@pytest.mark.usefixtures("slow_engine")
async def test_a_worker_that_is_stopped_hands_back_what_it_holds(
    redis_url: str, tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with worker(tiny_bundle, tmp_path, redis_url) as first:
        video_id = await submit(first, tmp_path, long_clip)
        async for state in first.events(video_id):
            if state.progress is not None and state.progress.frames:
                break
        began = time.monotonic()
    assert time.monotonic() - began < 5, "it does not finish the video first"
    assert not list((tmp_path / "results").iterdir())
    async with worker(tiny_bundle, tmp_path, redis_url) as second:
        assert await second.wait(video_id, 60)
        assert (await second.state(video_id)).status == "succeeded"

"""Jobs as the API sees them: owners, repeated requests, kept graphs, jobs that end their workers, sweeping."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from service.jobs import JobRecord
from service.jobs.errors import IdempotencyMismatch, NotFound, QueueFull
from service.jobs.sweeping import sweep
from service.options import VideoOptions
from service.settings import load_settings
from tests.service.jobs.process import ME, Process, process
from tests.service.jobs.test_webhooks import until_true

NOBODY = "0" * 32


async def graph_of(running: Process, video_id: str) -> dict[str, Any]:
    assert await running.jobs.wait(video_id, ME, 60)
    state = await running.jobs.state(video_id, ME)
    assert state.result is not None
    graph: dict[str, Any] = json.loads(state.result.read())
    return graph


async def test_another_owners_job_is_not_found(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    async with process(tiny_bundle, tmp_path, "memory://") as running:
        video_id = await running.submit(clip)
        await graph_of(running, video_id)
        for wrong_id, owner in ((video_id, "another"), (NOBODY, ME), ("../uploads", ME)):
            with pytest.raises(NotFound):
                await running.jobs.state(wrong_id, owner)
            with pytest.raises(NotFound):
                await running.jobs.delete(wrong_id, owner)
            with pytest.raises(NotFound):
                await anext(running.jobs.events(wrong_id, owner))
        assert (await running.jobs.state(video_id, ME)).status == "succeeded"


async def test_a_repeated_request_gets_the_job_of_the_first(
    redis_url: str, tiny_bundle: Path, clip: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, redis_url, reuse_results=False) as running:
        first = await running.submit(clip, request_key="one")
        assert await running.submit(clip, request_key="one") == first
        assert await running.submit(clip, request_key="two") != first
        assert await running.submit(clip, owner="another", request_key="one") != first
        with pytest.raises(IdempotencyMismatch):
            await running.submit(long_clip, request_key="one")
        await running.jobs.delete(first, ME)
        again = await running.submit(long_clip, request_key="one")
        assert again != first, "what was deleted does not answer"
        await graph_of(running, again)


@pytest.mark.parametrize("queue", ["memory", "redis"])
async def test_a_video_posted_again_gets_the_kept_graph_under_its_own_id(
    queue: str, request: pytest.FixtureRequest, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    url = "memory://" if queue == "memory" else request.getfixturevalue("redis_url")
    async with process(tiny_bundle, tmp_path, url) as running:
        first = await graph_of(running, await running.submit(clip))
        again = await running.submit(clip)
        state = await running.jobs.state(again, ME)
        assert state.status == "succeeded", "at once"
        second = await graph_of(running, again)
        assert second.pop("id") == again != first.pop("id")
        assert second == first
        for other in (
            {"owner": "another"},
            {"options": VideoOptions(fps=1, top_k=1)},
            {"reuse": False},
        ):
            video_id = await running.submit(clip, **other)
            owner = str(other.get("owner", ME))
            assert (await running.jobs.state(video_id, owner)).status in ("queued", "running"), other
            assert await running.jobs.wait(video_id, owner, 60)
        await until_true(lambda: not list((tmp_path / "uploads").iterdir()))
        await running.jobs.delete(again, ME)
        assert (await running.jobs.state(first_id(running), ME)).status == "succeeded", "a copy is a graph of its own"


def first_id(running: Process) -> str:
    return running.submitted[0]


@pytest.mark.parametrize(("crashes", "begun"), [(3, 3), (0, 10)])
async def test_a_job_that_has_ended_three_workers_or_begun_ten_times_fails(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path, crashes: int, begun: int
) -> None:
    async with process(tiny_bundle, tmp_path, redis_url) as running:
        video_id, other = NOBODY, "1" * 32
        for name, fewer in ((video_id, 0), (other, 1)):
            record = JobRecord(owner=ME, sha256="0" * 64, options=VideoOptions())
            # As workers would leave it that were killed in the middle of it.
            counts = {"begun": begun - fewer, "crashes": crashes - fewer}
            async with running.queue.docket.redis() as client:
                await client.hset(running.queue.records.key(name), mapping=counts)
            (tmp_path / "uploads" / name).write_bytes(clip.read_bytes())
            await running.queue.accept(name, record)
        problem = await graph_of(running, video_id)
        assert (problem["status"], problem["code"], problem["job_id"]) == (500, "worker_crashed", video_id)
        assert (await graph_of(running, other))["status"] == "succeeded", "the last time is allowed"
        await until_true(lambda: not list((tmp_path / "uploads").iterdir()))


async def test_a_full_queue_takes_no_more(tiny_bundle: Path, long_clip: Path, tmp_path: Path) -> None:
    async with process(tiny_bundle, tmp_path, "memory://", queue_limit=1) as running:
        video_id = await running.submit(long_clip)
        with pytest.raises(QueueFull):
            await running.submit(long_clip)
        assert await running.jobs.wait(video_id, ME, 60)


async def test_abandoned_uploads_and_expired_results_are_swept(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, redis_url) as running:
        kept, old = await running.submit(clip), await running.submit(clip, reuse=False)
        for video_id in (kept, old):
            await graph_of(running, video_id)
        uploading, abandoned = tmp_path / "uploads" / NOBODY, tmp_path / "uploads" / ("1" * 32)
        unfinished = tmp_path / "results" / ME / f"{NOBODY}.json.01234567.part"
        for path in (uploading, abandoned, unfinished):
            path.touch()
        for path in (abandoned, unfinished, tmp_path / "results" / ME / f"{old}.json"):
            os.utime(path, (time.time() - 2000,) * 2)
        await sweep(running.queue, running.storage, load_settings({"retention": 1000}))
        left = {path for path in tmp_path.rglob("*") if path.is_file()}
        assert left == {tmp_path / "STORAGE", tmp_path / "results" / ME / f"{kept}.json", uploading}

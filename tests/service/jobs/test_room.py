"""Room for everybody: what one caller may take of the queue, and of what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.jobs.errors import QueueFull, TooManyVideos
from service.keys import new_key
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.service.jobs.process import ME, Api, api, process
from tests.service.test_keys import write_keys
from tests.support.waiting import until


@asynccontextmanager
async def fleet_without_workers(bundle: Path, folder: Path, redis_url: str, **settings: Any) -> AsyncIterator[Api]:
    """An API with keys whose jobs wait, since its only worker has left."""
    async with process(bundle, folder / "data", redis_url):
        pass
    async with api(folder / "data", redis_url, keys=folder / "keys", **settings) as lonely:
        yield lonely


async def taken_by(lonely: Api, clip: Path, owner: str) -> int:
    """How many jobs an owner gets into the queue."""
    for count in range(100):
        try:
            await lonely.submit(clip, owner=owner)
        except QueueFull:
            return count
    raise AssertionError("the queue has no end")


async def test_a_caller_who_fills_the_queue_leaves_places_for_others(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with fleet_without_workers(tiny_bundle, tmp_path, redis_url, queue_limit=32) as lonely:
        assert await taken_by(lonely, clip, "greedy") == 24
        assert await taken_by(lonely, clip, "also greedy") == 6
        assert await taken_by(lonely, clip, "third") == 1
        with pytest.raises(QueueFull, match="24 of your videos wait or run"):
            await lonely.submit(clip, owner="greedy")
        assert await lonely.submit(clip, owner="modest")
        with pytest.raises(QueueFull, match="32 videos wait or run, and the limit here is 32"):
            await lonely.submit(clip, owner="late")
        for video_id in lonely.submitted[:4]:
            await lonely.jobs.delete(video_id, "greedy")
        assert await taken_by(lonely, clip, "late") == 3
        assert len(list((tmp_path / "data" / "uploads").iterdir())) == 31, "what is refused leaves nothing"


async def test_posts_at_once_do_not_go_over_the_limits(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with fleet_without_workers(tiny_bundle, tmp_path, redis_url, queue_limit=8) as lonely:
        for owner, places in (("greedy", 6), ("other", 1)):
            answers = await asyncio.gather(
                *(lonely.submit(clip, owner=owner) for _ in range(12)), return_exceptions=True
            )
            assert sum(isinstance(answer, str) for answer in answers) == places
            assert {type(answer) for answer in answers} == {str, QueueFull}


async def test_without_keys_one_caller_may_fill_the_queue(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with fleet_without_workers(tiny_bundle, tmp_path, redis_url):
        pass
    async with api(tmp_path / "data", redis_url, queue_limit=8) as lonely:
        assert await taken_by(lonely, clip, ME) == 8


async def test_jobs_that_a_worker_of_another_version_has_ended_free_their_places(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with fleet_without_workers(tiny_bundle, tmp_path, redis_url, queue_limit=8) as lonely:
        assert await taken_by(lonely, clip, ME) == 6
        records = lonely.queue.records
        async with lonely.queue.docket.redis() as client:
            await client.hset(records.key(lonely.submitted[0]), "ended", "succeeded")
            await client.delete(records.key(lonely.submitted[1]))
        for video_id in lonely.submitted[:2]:
            await lonely.queue.docket.cancel(video_id)
        with pytest.raises(QueueFull):
            await lonely.submit(clip)
        assert await lonely.submit(clip)


async def test_what_waits_and_what_is_kept_count_together_until_it_is_deleted_or_over(
    tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, "memory://", kept_limit=4, retention=3) as running:
        assert await running.end_of(await running.submit(clip)) == "succeeded"
        for _ in range(3):
            await running.submit(clip)
        with pytest.raises(TooManyVideos, match="4 of your videos wait, run or are kept, and the limit here is 4"):
            await running.submit(clip)
        with pytest.raises(TooManyVideos):
            await running.jobs.check_room(ME)
        await running.submit(clip, owner="another")
        await running.jobs.delete(running.submitted[1], ME)
        await running.submit(clip)
        with pytest.raises(TooManyVideos):
            await running.jobs.check_room(ME)
        await asyncio.sleep(3.2)
        await running.jobs.check_room(ME)


@pytest.mark.usefixtures("slow_engine")
def test_over_http_a_caller_who_fills_the_queue_gets_429_and_others_202(
    start_server: Callable[..., Server], tmp_path: Path, long_clip: Path
) -> None:
    alice, bob = new_key(), new_key()
    server = start_server(keys=write_keys(tmp_path / "keys", alice=alice, bob=bob), queue_limit=4, concurrency=1)
    of_alice, of_bob = ({"authorization": f"Bearer {key}", "prefer": "respond-async"} for key in (alice, bob))
    accepted = [server.post(long_clip, headers=of_alice) for _ in range(3)]
    assert {answer.status_code for answer in accepted} == {202}
    refused = server.post(long_clip, headers=of_alice)
    problem_of(refused, 429, "queue_full")
    assert int(refused.headers["retry-after"]) > 0
    others = server.post(long_clip, headers=of_bob)
    assert others.status_code == 202
    for answer, headers in [*((answer, of_alice) for answer in accepted), (others, of_bob)]:
        server.client.delete(answer.headers["location"], headers=headers)
    until(lambda: not server.uploads())

"""A graph that answers equal videos is stored once, and lasts as long as any of them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from service.jobs.errors import NotFound
from service.jobs.sweeping import sweep
from service.settings import load_settings
from tests.service.jobs.process import ME, Process, process
from tests.service.jobs.test_webhooks import until_true


async def graph_of(running: Process, video_id: str) -> dict[str, Any]:
    state = await running.jobs.state(video_id, ME)
    assert state.result is not None
    graph: dict[str, Any] = json.loads(state.result.read())
    return graph


def results(folder: Path) -> set[str]:
    return {path.name for path in (folder / "results" / ME).iterdir()}


@pytest.fixture(params=["memory", "redis"])
def queue_url(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")


async def test_a_video_posted_again_and_again_is_stored_once(
    queue_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, queue_url) as running:
        first = await running.submit(clip)
        assert await running.end_of(first) == "succeeded"
        size = (tmp_path / "results" / ME / f"{first}.json").stat().st_size
        others = [await running.submit(clip) for _ in range(20)]
        assert sum(path.stat().st_size for path in (tmp_path / "results" / ME).iterdir()) == size
        assert [(await graph_of(running, video_id))["id"] for video_id in others] == others

        await running.jobs.delete(first, ME)
        await running.jobs.delete(others[0], ME)
        for video_id in (first, others[0]):
            with pytest.raises(NotFound):
                await running.jobs.state(video_id, ME)
        assert (await graph_of(running, others[1]))["id"] == others[1]
        again = await running.submit(clip)
        assert (await graph_of(running, again))["id"] == again, "the others' graph answers still"
        for video_id in (*others[1:], again):
            await running.jobs.delete(video_id, ME)
        assert results(tmp_path) == set(), "the last one takes the graph with it"
        assert await running.end_of(await running.submit(clip)) == "succeeded"
        await until_true(lambda: not list((tmp_path / "uploads").iterdir()))


async def test_a_graph_is_swept_when_it_answers_for_no_video_any_more(
    queue_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    settings = load_settings({"retention": 1000})
    async with process(tiny_bundle, tmp_path, queue_url, sweep_seconds=3600) as running:
        first = await running.submit(clip)
        assert await running.end_of(first) == "succeeded"
        again = await running.submit(clip)
        graph, share = (tmp_path / "results" / ME / name for name in (f"{first}.json", f"{again}.{first}.share"))
        os.utime(graph, (time.time() - 2000,) * 2)
        await sweep(running.queue, running.storage, settings)
        assert (await graph_of(running, again))["id"] == again
        await running.jobs.delete(again, ME)
        os.utime(graph, (time.time() - 2000,) * 2)
        await sweep(running.queue, running.storage, settings)
        assert not graph.exists()
        assert not share.exists()


async def test_a_graph_is_kept_by_what_the_queue_knows_where_a_listing_is_late(
    queue_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, queue_url, sweep_seconds=3600) as running:
        first = await running.submit(clip)
        assert await running.end_of(first) == "succeeded"
        again = await running.submit(clip)
        graph, share = (tmp_path / "results" / ME / name for name in (f"{first}.json", f"{again}.{first}.share"))
        share.unlink()
        os.utime(graph, (time.time() - 2000,) * 2)
        await sweep(running.queue, running.storage, load_settings({"retention": 1000}))
        assert (await graph_of(running, again))["id"] == again


async def test_shared_graphs_outlive_a_queue_that_forgets(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    async with process(tiny_bundle, tmp_path, "memory://") as running:
        deleted = await running.submit(clip)
        assert await running.end_of(deleted) == "succeeded"
        kept, last = await running.submit(clip), await running.submit(clip)
        await running.jobs.delete(deleted, ME)
        own = await running.submit(clip, reuse=False)
        assert await running.end_of(own) == "succeeded"
    async with process(tiny_bundle, tmp_path, "memory://") as running:
        with pytest.raises(NotFound):
            await running.jobs.state(deleted, ME)
        for video_id in (kept, last, own):
            assert (await graph_of(running, video_id))["id"] == video_id
        await running.jobs.delete(kept, ME)
        with pytest.raises(NotFound):
            await running.jobs.state(kept, ME)
        assert (await graph_of(running, last))["id"] == last
        await running.jobs.delete(last, ME)
        assert results(tmp_path) == {f"{own}.json"}


async def test_a_graph_that_is_deleted_after_a_restart_still_answers_the_others(
    tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, "memory://") as running:
        first = await running.submit(clip)
        assert await running.end_of(first) == "succeeded"
        again = await running.submit(clip)
    async with process(tiny_bundle, tmp_path, "memory://") as running:
        await running.jobs.delete(first, ME)
        with pytest.raises(NotFound):
            await running.jobs.state(first, ME)
        assert (await graph_of(running, again))["id"] == again


async def test_nothing_of_shared_graphs_stays_in_redis(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, redis_url, retention=2) as running:
        assert await running.end_of(await running.submit(clip)) == "succeeded"
        await running.submit(clip)
        async with running.queue.docket.redis() as client:
            for key in (f"vsg:{kind}:*" for kind in ("kept", "shared")):
                (found,) = await client.keys(key)
                assert 0 < await client.ttl(found) <= 2
            assert await client.keys("vsg:active:*") == []

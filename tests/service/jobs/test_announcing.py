"""Webhooks about jobs that end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.service.jobs.process import ME, Api, api, process
from tests.service.jobs.test_webhooks import NEW as SECRET
from tests.service.jobs.test_webhooks import OTHER, read, until_true
from tests.support.videos import make_video
from tests.support.web import Web, reply, serve_web


async def told(web: Web, running: Api, video_id: str) -> dict[str, object]:
    """The event of a job, once the receiver has it."""

    def found() -> list[bytes]:
        return [request for request in web.requests if video_id.encode() in request]

    await until_true(found)
    headers, body = read(found()[0])
    event: dict[str, object] = Webhook(SECRET).verify(body, headers)
    return event


@pytest.mark.usefixtures("slow_engine")
@pytest.mark.parametrize("queue", ["memory", "redis"])
async def test_each_job_with_a_webhook_tells_its_receiver_once_how_it_has_ended(
    queue: str, request: pytest.FixtureRequest, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    url = "memory://" if queue == "memory" else request.getfixturevalue("redis_url")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:200])
    # Half a minute's work: while it goes on the receiver is told three times, each by a job of its own.
    endless = make_video(tmp_path / "endless.mp4", seconds=600, rate=1)
    with serve_web(reply()) as web:
        there = f"http://127.0.0.1:{web.port}/told"
        allowed = {
            "webhook_hosts": f"127.0.0.1:{web.port}",
            "url_networks": "127.0.0.0/8",
            "webhook_secret": SECRET,
            "concurrency": 1,
        }
        async with process(tiny_bundle, tmp_path / "data", url, **allowed) as running:
            good, bad = await running.submit(clip, webhook=there), await running.submit(broken, webhook=there)
            stopped, waiting = await running.submit(endless, webhook=there), await running.submit(clip, webhook=there)
            await running.submit(clip)
            for video_id, kind in ((good, "succeeded"), (bad, "failed")):
                event = await told(web, running, video_id)
                assert event["type"] == f"video.{kind}"
                assert (await running.jobs.state(video_id, ME)).status == kind, "the result is there already"
            assert event["data"]["problem"]["code"] == "video_unreadable"  # type: ignore[index]
            for video_id in (waiting, stopped):
                await running.jobs.delete(video_id, ME)
                assert (await told(web, running, video_id))["type"] == "video.cancelled"
            await asyncio.sleep(0.2)
            assert len(web.requests) == 4, "nobody else is told, and nobody twice"


@pytest.mark.parametrize("of_worker", [{}, {"webhook_secret": OTHER}])
async def test_settings_at_the_api_alone_deliver_the_webhooks_of_a_fleet(
    of_worker: dict[str, str], redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data, broken = tmp_path / "data", tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:200])
    with serve_web(reply()) as web:
        there = f"http://127.0.0.1:{web.port}/told"
        allowed = {"webhook_hosts": f"127.0.0.1:{web.port}", "url_networks": "127.0.0.0/8", "webhook_secret": SECRET}
        async with process(tiny_bundle, data, redis_url, **of_worker) as worker:
            assert worker.queue.is_alive
            async with api(data, redis_url, **allowed) as front:
                for video, kind in ((clip, "succeeded"), (broken, "failed"), (clip, "succeeded")):
                    video_id = await front.submit(video, webhook=there)
                    assert (await told(web, front, video_id))["type"] == f"video.{kind}"
                late = await front.submit(clip, webhook=there, reuse=False)
            assert await worker.end_of(late) == "succeeded"
            async with api(data, redis_url, **allowed) as front:
                assert (await told(web, front, late))["type"] == "video.succeeded", "it has waited for an API"
            assert len(web.requests) == 4, "nobody is told twice"

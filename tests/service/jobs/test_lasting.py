"""What lasts: deleted jobs stay deleted, workers are known again after Redis lost its data, connections come back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from service.errors import Unavailable
from service.jobs import JobQueue
from service.jobs.errors import NotFound
from service.jobs.sweeping import sweep
from service.metrics import Metrics
from service.storage import Storage
from tests.service.jobs.process import ME, api, process, settings_of
from tests.service.jobs.test_webhooks import until_true
from tests.support.ports import unused_port
from tests.support.processes import start
from tests.support.waiting import until


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


async def test_a_worker_that_wakes_up_does_not_bring_back_what_was_deleted(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    fleet = {"queue_url": redis_url, "data": data, "bundles": tiny_bundle, "engine": "stub", "lease_seconds": 1}
    late = start("worker", tmp_path / "late.log", stub_seconds=3, **fleet)
    try:
        async with api(data, redis_url) as lonely:
            await until_offered(lonely.jobs.catalog)
            video_id = await lonely.submit(clip)
            async for state in lonely.jobs.events(video_id, ME):
                if state.status == "running":
                    break
            (worker,) = psutil.Process(late.pid).children()
            with stopped(worker):
                async with process(tiny_bundle, data, redis_url, lease_seconds=1) as second:
                    assert await second.end_of(video_id) == "succeeded"
                    await second.jobs.delete(video_id, ME)
            log = tmp_path / "late.log"
            await until_true(lambda: "job ended" in log.read_text() or "left to the worker" in log.read_text())
            with pytest.raises(NotFound):
                await lonely.jobs.state(video_id, ME)
            assert not list((data / "results").rglob("*.json")), "not even in storage"
    finally:
        late.kill()
        late.wait()


async def until_offered(catalog: Any) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                await catalog.models()
                return
            except Unavailable:
                await asyncio.sleep(0.1)


async def test_a_worker_that_lost_its_job_ends_nothing(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url):
        pass
    async with api(data, redis_url) as lonely:
        video_id, records = await lonely.submit(clip), lonely.queue.records
        first, second = await lonely.queue.take(video_id), await lonely.queue.take(video_id)
        assert first is not None
        assert second is not None
        assert await lonely.queue.end(first, "failed") == "taken"
        assert await records.begin(first) == "taken"
        assert await records.begin(second) == "mine"
        await lonely.jobs.delete(video_id, ME)
        for late in (first, second):
            assert await lonely.queue.end(late, "succeeded") == "deleted"
            assert await records.begin(late) == "deleted"
            assert await records.release(late, was_begun=True, leaves=False) == "deleted"
        await records.blame(video_id)
        assert not await records.exists(video_id), "nothing made the record anew"


async def test_a_result_that_comes_after_its_job_was_deleted_is_neither_shown_nor_kept(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url) as running:
        video_id = await running.submit(clip)
        assert await running.end_of(video_id) == "succeeded"
        await running.jobs.delete(video_id, ME)
        running.storage.write_result(video_id, ME, b"{}")
        with pytest.raises(NotFound):
            await running.jobs.state(video_id, ME)
        await sweep(running.queue, running.storage, settings_of(data, redis_url))
        assert running.storage.result(video_id, ME) is None


@pytest.mark.usefixtures("slow_engine")
async def test_workers_are_known_again_after_redis_has_lost_its_data(
    redis_url: str, tiny_bundle: Path, clip: Path, long_clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, redis_url) as running:
        kept = await running.submit(clip)
        assert await running.end_of(kept) == "succeeded"
        under_way = await running.submit(long_clip)
        async for state in running.jobs.events(under_way, ME):
            if state.progress is not None and state.progress.frames:
                break
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        with pytest.raises(Unavailable, match="no worker"):  # nothing can be accepted yet
            await running.jobs.check()
        assert await running.status(kept) == "succeeded", "graphs are in storage"
        await until_offered(running.jobs.catalog)
        await running.jobs.check()
        assert await running.end_of(await running.submit(clip)) == "succeeded"
        result = tmp_path / "results" / ME / f"{under_way}.json"
        await until_true(result.exists)
        assert await running.status(under_way) == "succeeded", "what ran is not taken for deleted"


async def test_the_first_commands_after_a_restart_of_redis_succeed_and_connections_are_few(tmp_path: Path) -> None:
    port = unused_port()
    with redis_server(port, tmp_path) as server:
        settings = settings_of(tmp_path / "data", f"redis://127.0.0.1:{port}/0")
        async with JobQueue(settings, Metrics()) as queue:
            for restarted in (False, True):
                if restarted:
                    server.kill()
                    server.wait()
                    await asyncio.sleep(0.2)
                    server = start_redis(port, tmp_path)
                await asyncio.gather(*(queue.look("0" * 32) for _ in range(500)))
                assert (
                    len([c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port]) < 80
                )
        server.kill()
        server.wait()


def start_redis(port: int, folder: Path) -> subprocess.Popen[bytes]:
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until(lambda: _pings(port))
    return server


def _pings(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


@contextmanager
def redis_server(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    server = start_redis(port, folder)
    try:
        yield server
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_process_whose_clock_is_wrong_sweeps_nothing_and_tells_the_right_ages(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url) as running:
        kept = await running.submit(clip)
        assert await running.end_of(kept) == "succeeded"
    async with api(data, redis_url) as lonely:
        waiting = await lonely.submit(clip, reuse=False)
        (data / "uploads" / ("1" * 32)).write_bytes(b"arrives just now")
        (data / "results" / ME / f"{'2' * 32}.json.0.part").touch()
        right = time.time
        with monkeypatch.context() as wrong:
            wrong.setattr(time, "time", lambda: right() + hours * 3600)
            await sweep(lonely.queue, Storage(str(data)), settings_of(data, redis_url))
            backlog = await lonely.queue.backlog()
            assert 0 <= backlog.oldest_seconds < 60
            assert 0 <= backlog.age < 60
            async with api(data, redis_url) as other:
                assert await other.status(kept) == "succeeded"
                assert await other.status(waiting) == "queued"
                with redis.Redis.from_url(redis_url) as client:
                    client.delete(other.queue.records.key(kept))  # only the age of its file tells then
                assert await other.status(kept) == "succeeded"
        assert len(list((data / "uploads").iterdir())) == 2
        assert len([path for path in (data / "results").rglob("*") if path.is_file()]) == 2


async def test_a_job_put_back_by_a_worker_whose_clock_is_ahead_is_soon_taken(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url):
        pass
    async with api(data, redis_url) as lonely:
        video_id = await lonely.submit(clip)
        execution = await lonely.queue.docket.get_execution(video_id)
        assert execution is not None
        right = time.time
        with monkeypatch.context() as wrong:
            wrong.setattr(time, "time", lambda: right() + 7200)
            await lonely.queue.put_back(execution)
        assert execution.when.timestamp() < right() + 5

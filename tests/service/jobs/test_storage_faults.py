"""Storage that is away or full: accepted jobs wait for it, and the process says so."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.errors import StorageFull, StorageUnavailable
from service.jobs.errors import NotFound
from tests.service.jobs.process import ME, Api, api, process
from tests.service.jobs.test_webhooks import until_true


@pytest.fixture(params=["memory", "redis"])
def queue_url(request: pytest.FixtureRequest) -> str:
    url: str = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    return url


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """Takes a folder away, as when a disk is not mounted: at its place is an empty one."""
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    folder.mkdir()
    try:
        yield
    finally:
        folder.rmdir()  # nobody has put anything there
        elsewhere.rename(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs the rights of root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


async def until_it_is_away(running: Api) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await running.jobs.check()
            except StorageUnavailable:
                return
            await asyncio.sleep(0.1)


@pytest.mark.usefixtures("slow_engine")
async def test_jobs_wait_while_storage_is_away_and_then_all_succeed(
    queue_url: str, tiny_bundle: Path, clip: Path, long_clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, queue_url, concurrency=2) as running:
        ids = [await running.submit(long_clip)]
        ids += [await running.submit(clip, reuse=False) for _ in range(4)]
        with away(data):
            await until_it_is_away(running)
            assert running.metrics.registry.get_sample_value("vsg_storage_up") == 0
            await asyncio.sleep(4)
            statuses = {await running.status(video_id) for video_id in ids}
            assert statuses <= {"queued", "running"}, "nobody is told that a video is gone"
        assert [await running.end_of(video_id) for video_id in ids] == ["succeeded"] * 5
        await until_true(lambda: not list((data / "uploads").iterdir()))
        await asyncio.sleep(2.1)
        await running.jobs.check()
        assert running.metrics.registry.get_sample_value("vsg_storage_up") == 1


async def test_a_video_that_is_damaged_by_nothing_but_its_storage_does_not_fail(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url) as running:
        with away(data):
            await until_it_is_away(running)
            with pytest.raises(StorageUnavailable):
                await running.submit(clip)
        video_id = await running.submit(clip)
        assert await running.end_of(video_id) == "succeeded"
        with away(data), pytest.raises(StorageUnavailable):  # not "there is no such video"
            await running.jobs.state(video_id, ME)
        assert await running.status(video_id) == "succeeded"
        with pytest.raises(NotFound):
            await running.jobs.state("0" * 32, ME)


async def test_jobs_wait_for_room_on_a_full_disk(
    redis_url: str, tiny_bundle: Path, clip: Path, small_disk: Path
) -> None:
    async with process(tiny_bundle, small_disk / "data", redis_url) as running:
        first = await running.submit(clip)
        assert await running.end_of(first) == "succeeded"
        ballast = fill(small_disk)
        upload = running.storage.open_upload("1" * 32)
        with pytest.raises(StorageFull):
            upload.write(bytes(1 << 16))
        upload.abandon()
        await until_it_is_away(running)
        assert await running.status(first) == "succeeded", "what is there can be read"
        ballast.unlink()
        await asyncio.sleep(2.1)
        waiting = await running.submit(clip, reuse=False)
        ballast = fill(small_disk)
        await asyncio.sleep(3)
        ballast.unlink()
        assert await running.end_of(waiting) == "succeeded"


@pytest.mark.usefixtures("slow_engine")
async def test_a_job_without_room_for_its_graph_is_not_lost(
    redis_url: str, tiny_bundle: Path, long_clip: Path, small_disk: Path
) -> None:
    async with process(tiny_bundle, small_disk / "data", redis_url) as running:
        video_id = await running.submit(long_clip)
        async for state in running.jobs.events(video_id, ME):
            if state.progress is not None and state.progress.frames:
                break
        ballast = fill(small_disk)
        async for state in running.jobs.events(video_id, ME):
            assert state.status != "failed"
            if state.status == "queued":  # its graph did not fit
                break
        assert await running.status(video_id) == "queued"
        assert running.metrics.registry.get_sample_value("vsg_jobs_total", {"status": "failed"}) == 0
        ballast.unlink()
        assert await running.end_of(video_id) == "succeeded"


@pytest.mark.usefixtures("slow_engine")
async def test_a_job_is_deleted_while_its_storage_is_away(
    redis_url: str, tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url) as running:
        video_id = await running.submit(long_clip)
        with away(data):
            await until_it_is_away(running)
            await running.jobs.delete(video_id, ME)
            with pytest.raises(NotFound):
                await running.jobs.state(video_id, ME)
        await asyncio.sleep(2)
        with pytest.raises(NotFound):
            await running.jobs.state(video_id, ME)
        assert not list((data / "results").rglob("*.json"))


async def test_a_process_that_starts_while_storage_is_away_makes_no_other(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url):
        pass
    async with api(data, redis_url) as lonely:
        video_id = await lonely.submit(clip)
        with away(data):
            async with process(tiny_bundle, data, redis_url) as late:
                await asyncio.sleep(1)
                with pytest.raises(StorageUnavailable):
                    await late.worker.check()
                assert await lonely.status(video_id) == "queued"
                assert not list(data.iterdir())
        async with process(tiny_bundle, data, redis_url):
            assert await lonely.end_of(video_id) == "succeeded"


async def test_a_worker_with_another_storage_fails_no_job(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    async with process(tiny_bundle, other, "memory://"):
        pass  # it has a mark of its own now
    async with process(tiny_bundle, data, redis_url):
        pass
    async with api(data, redis_url) as lonely:
        video_id = await lonely.submit(clip)
        for folder in (other, tmp_path / "new"):
            async with process(tiny_bundle, folder, redis_url) as lost:
                await asyncio.sleep(1)
                with pytest.raises(StorageUnavailable):
                    await lost.worker.check()
                assert await lonely.status(video_id) == "queued"
        async with process(tiny_bundle, data, redis_url):
            assert await lonely.end_of(video_id) == "succeeded"

"""Accepting a job is one step: whatever dies in between, a repeated request makes the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.exceptions import RedisError

from service.errors import Unavailable
from service.jobs import JobRecord
from service.jobs.sweeping import sweep
from tests.service.jobs.process import ME, OPTIONS, api, process, settings_of


class Wire:
    """A way to Redis that breaks, for good, before or after one more command. `left` is None while it holds."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self.left: int | None = None
        self.loses_answer = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one connection."""
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        answers = asyncio.create_task(self._carry_back(there, writer))
        try:
            while data := await reader.read(1 << 16):
                if self.left == 0:
                    break
                if self.left is not None:
                    self.left -= 1
                back.write(data)
                await back.drain()
        except ConnectionError:
            pass
        finally:
            self._cut()
            await asyncio.wait([answers])

    async def _carry_back(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(1 << 16):
            if self.left == 0 and self.loses_answer:
                return
            writer.write(data)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def wire(redis_url: str) -> AsyncIterator[tuple[Wire, str]]:
    parts = urlsplit(redis_url)
    assert parts.port is not None
    made = Wire(parts.port)
    server = await asyncio.start_server(made.carry, "127.0.0.1", 0)
    async with server:
        yield made, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        server.close()


@pytest.mark.parametrize("loses_answer", [False, True])
async def test_a_request_repeated_after_any_command_makes_the_job(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path, *, loses_answer: bool
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url, reuse_results=False) as running:
        for commands in range(1, 12):
            key = f"key {commands}"
            async with wire(redis_url) as (way, url), api(data, url, reuse_results=False) as broken:
                model = (await broken.jobs.catalog.models())[0].reference
                video_id = f"{commands:032x}"
                upload = running.storage.open_upload(video_id)
                upload.write(clip.read_bytes())
                upload.close()
                record = JobRecord(owner=ME, sha256=upload.sha256, options=OPTIONS)
                way.left, way.loses_answer = commands, loses_answer
                try:
                    first = await broken.jobs.submit(video_id, record, model, request_key=key)
                except (RedisError, Unavailable):
                    first = None
            again = await running.submit(clip, request_key=key)
            assert await running.end_of(again) == "succeeded"
            if first is not None:
                assert again == first
            async with running.queue.docket.redis() as client:
                assert await client.ttl(running.queue.records.key(again)) > 0, "it is not kept for ever"
                assert await client.ttl(running.queue.records._request_key(ME, key)) > 0


async def test_a_claim_lasts_as_long_as_its_job_waits(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url):
        pass  # the API knows its models now
    async with api(data, redis_url, retention=1, reuse_results=False) as lonely:
        first = await lonely.submit(clip, request_key="one")
        await asyncio.sleep(1.5)
        assert await lonely.submit(clip, request_key="one") == first
        assert await lonely.status(first) == "queued"


async def test_a_job_is_not_accepted_for_an_upload_that_was_swept(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url) as running:
        assert await running.queue.records.abandon("1" * 32, 60)
        record = JobRecord(owner=ME, sha256="0" * 64, options=OPTIONS)
        model = (await running.jobs.catalog.models())[0].reference
        with pytest.raises(Unavailable, match="send it again"):
            await running.jobs.submit("1" * 32, record, model)
        assert not await running.queue.records.exists("1" * 32)


async def test_the_upload_of_a_job_that_waits_is_never_swept(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url):
        pass
    async with api(data, redis_url) as lonely:
        video_id = await lonely.submit(clip)
        await asyncio.sleep(0.5)
        await sweep(lonely.queue, lonely.storage, settings_of(data, redis_url, upload_idle_seconds=0.1))
        assert [path.name for path in (data / "uploads").iterdir()] == [video_id]
    async with process(tiny_bundle, data, redis_url) as running:
        assert await running.end_of(video_id) == "succeeded"


async def test_a_job_that_waits_is_known_without_asking_the_storage(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url):
        pass
    async with api(data, redis_url) as lonely:
        video_id = await lonely.submit(clip)
        data.rename(tmp_path / "elsewhere")
        assert await lonely.status(video_id) == "queued"
        (tmp_path / "elsewhere").rename(data)

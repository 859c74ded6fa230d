"""Workers that differ: other models, other versions."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest
from docket import Docket

from service.errors import Unavailable, UnknownModel
from service.jobs import JobRecord
from service.jobs.errors import NotFound
from tests.service.jobs.process import ME, OPTIONS, Api, api, process
from tests.support.bundles import make_tiny_bundle

SECOND = OPTIONS.model_copy(update={"model": "tiny-2"})


@pytest.fixture(scope="module")
def second_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle named `tiny-2`."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "second", name="tiny-2")


async def offered(running: Api) -> list[str]:
    return [model.name for model in await running.jobs.catalog.models()]


async def test_jobs_go_to_workers_that_have_their_model(
    redis_url: str, tiny_bundle: Path, second_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url) as one, process(second_bundle, data, redis_url) as other:
        assert await offered(one) == ["tiny-2", "tiny"], "the default is that of the worker that started last"
        assert [model.default for model in await one.jobs.catalog.models()] == [True, False]
        first = OPTIONS.model_copy(update={"model": "tiny"})
        ids = [
            await one.submit(clip, options=options, reuse=False)
            for _ in range(4)
            for options in (first, SECOND, OPTIONS)
        ]
        assert [await one.end_of(video_id) for video_id in ids] == ["succeeded"] * 12
        names = []
        for video_id in ids:
            result = (await other.jobs.state(video_id, ME)).result
            assert result is not None
            names.append(json.loads(result.read())["model"]["name"])
        assert names == ["tiny", "tiny-2", "tiny-2"] * 4


async def test_jobs_of_a_model_whose_worker_is_gone_wait_for_it(
    redis_url: str, tiny_bundle: Path, second_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(second_bundle, data, redis_url):
        pass
    async with process(tiny_bundle, data, redis_url) as one:
        async with api(data, redis_url) as lonely:
            assert await offered(lonely) == ["tiny"], "what no worker that lives has is not offered"
            with pytest.raises(UnknownModel):
                await lonely.submit(clip, options=SECOND)
        async with process(second_bundle, data, redis_url) as other:
            reference = (await other.jobs.catalog.models())[0].reference
        video_id = "1" * 32
        upload = one.storage.open_upload(video_id)
        upload.write(clip.read_bytes())
        upload.close()
        record = JobRecord(owner=ME, sha256=upload.sha256, options=SECOND)
        await one.jobs.submit(video_id, record, reference)  # it was offered when its request began
        states = []
        with suppress(TimeoutError):
            async with asyncio.timeout(3.5):
                async for state in one.jobs.events(video_id, ME):
                    states.append(state.status)
        assert set(states) == {"queued"}, "nobody sees that workers pass it on"
        assert (await one.queue.backlog()).length == 1
        assert await one.end_of(await one.submit(clip)) == "succeeded", "others do not wait for it"
        async with process(second_bundle, data, redis_url):
            assert await one.end_of(video_id) == "succeeded"


async def test_a_job_of_a_model_that_is_withdrawn_for_good_fails_in_the_end(
    redis_url: str, tiny_bundle: Path, second_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.catalog._SILENT_SECONDS", 3.0)
    data = tmp_path / "data"
    async with process(second_bundle, data, redis_url, stall_seconds=1, decode_seconds=0.9) as other:
        reference = (await other.jobs.catalog.models())[0].reference
    async with process(tiny_bundle, data, redis_url, stall_seconds=1, decode_seconds=0.9) as one:
        (data / "uploads" / ("1" * 32)).write_bytes(clip.read_bytes())
        await one.jobs.submit("1" * 32, JobRecord(owner=ME, sha256="0" * 64, options=SECOND), reference)
        assert await one.end_of("1" * 32) == "failed"
        result = (await one.jobs.state("1" * 32, ME)).result
        assert result is not None
        assert json.loads(result.read())["code"] == "unknown_model"


async def test_models_are_offered_while_the_only_worker_is_replaced_but_not_for_ever(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.catalog._SILENT_SECONDS", 1.0)
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url):
        pass
    async with api(data, redis_url, stall_seconds=1, decode_seconds=0.9) as lonely:
        assert await offered(lonely) == ["tiny"]
        assert await lonely.jobs.catalog.living_workers() == 0
        await lonely.submit(clip)
        await asyncio.sleep(2.5)
        with pytest.raises(Unavailable):
            await lonely.jobs.catalog.models()


async def test_a_record_of_another_version_is_left_to_a_worker_that_can_read_it(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url) as running:
        pass
    async with api(data, redis_url) as lonely:
        newer, older = await lonely.submit(clip), await lonely.submit(clip, reuse=False)
        garbled = await lonely.submit(clip, reuse=False, request_key="one")
        async with lonely.queue.docket.redis() as client:
            keys = {video_id: lonely.queue.records.key(video_id) for video_id in (newer, older, garbled)}
            stored = json.loads(await client.hget(keys[newer], "record") or b"")
            stored["options"]["zoom"] = 2
            await client.hset(keys[newer], mapping={"record": json.dumps(stored), "shape": "new"})
            del stored["options"], stored["model"]
            stored["options"] = {"fps": 1.0}
            await client.hset(keys[older], mapping={"record": json.dumps(stored | {"priority": 1})})
            await client.hdel(keys[older], "accepted")
            await client.hset(keys[garbled], mapping={"record": "not JSON"})
    async with process(tiny_bundle, data, redis_url) as running:
        assert await running.end_of(older) == "succeeded"
        assert await running.end_of(await running.submit(clip, reuse=False)) == "succeeded"
        assert await running.status(newer) == "queued", "a newer worker will read it"
        with pytest.raises(NotFound):  # nobody knows whose it is
            await running.jobs.state(garbled, ME)
        assert await running.submit(clip, reuse=False, request_key="one") == garbled
        assert running.worker.is_alive
        await running.worker.check()
        await running.jobs.check()
        await running.jobs.delete(newer, ME)
        with pytest.raises(NotFound):
            await running.jobs.state(newer, ME)


async def test_a_record_that_nobody_can_read_fails_in_the_end(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, redis_url):
        pass
    async with api(data, redis_url) as lonely:
        video_id = await lonely.submit(clip)
        async with lonely.queue.docket.redis() as client:
            record = json.dumps({"owner": ME, "request": "of the future"})
            await client.hset(lonely.queue.records.key(video_id), mapping={"record": record})
    async with process(tiny_bundle, data, redis_url, stall_seconds=1, decode_seconds=0.9) as running:
        assert await running.end_of(video_id) == "failed"
        result = (await running.jobs.state(video_id, ME)).result
        assert result is not None
        assert json.loads(result.read())["code"] == "job_unreadable"


async def test_offers_of_another_version_do_no_harm(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async with process(tiny_bundle, tmp_path, redis_url) as running:
        docket = running.queue.docket
        async with docket.redis() as client:
            now = await running.queue.now()
            offer = {"models": docket.key("models:future"), "started": now + 9, "seen": now + 9}
            await client.hset(docket.key("offers"), mapping={"future": json.dumps(offer), "odd": "?"})
            await client.set(docket.key("models:future"), json.dumps([{"name": "tiny", "dimensions": 4}]))
            await client.set(docket.key("models"), json.dumps([{"name": "ancient"}]))
        assert await offered(running) == ["tiny"]
        await running.jobs.check()
        assert await running.end_of(await running.submit(clip)) == "succeeded"


async def test_a_task_of_another_version_stays_in_the_queue(
    redis_url: str, tiny_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    async def make_hologram(video_id: str) -> None:
        raise AssertionError("no worker here knows it")

    async with process(tiny_bundle, tmp_path, redis_url) as running:
        async with Docket("vsg", redis_url) as future:
            await future.add(make_hologram, key="2" * 32)("2" * 32)
        assert await running.end_of(await running.submit(clip)) == "succeeded"
        await asyncio.sleep(1)
        assert await running.queue.length() == 1
        assert running.worker.is_alive

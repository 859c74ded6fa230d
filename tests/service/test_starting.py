"""A service whose queue or storage cannot be used ends at its start, with one line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.starting import check_start
from service.errors import SettingsError
from service.http.web_server import listen
from service.jobs import JobQueue
from service.metrics import Metrics
from service.settings import Settings, load_settings
from service.storage import Storage


def fleet(redis_url: str, data: Path | str) -> Settings:
    return load_settings({"queue_url": redis_url, "data": str(data)})


async def refusal(settings: Settings) -> str:
    with pytest.raises(SettingsError) as refused:
        await check_start(settings, waits=False)
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def test_processes_with_different_storages_are_not_one_fleet(redis_url: str, tmp_path: Path) -> None:
    await check_start(fleet(redis_url, tmp_path / "one"), waits=False)
    await check_start(fleet(redis_url, tmp_path / "one"), waits=False)
    other = load_settings({"data": str(tmp_path / "other")})
    await check_start(other, waits=False)  # a service of its own, so this storage has a mark
    for folder in ("other", "new"):
        text = await refusal(fleet(redis_url, tmp_path / folder))
        assert f"VSG_DATA is '{tmp_path / folder}', which is not the storage of the other processes: give all" in text
    assert not (tmp_path / "new").exists()


async def test_a_storage_that_was_claimed_and_never_made_is_forgotten(redis_url: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "VSG_DATA is " in await refusal(fleet(redis_url, file / "data"))
    key = "vsg:storage"
    left = subprocess.run(["redis-cli", "-u", redis_url, "ttl", key], capture_output=True, text=True, check=True)
    assert -2 <= int(left.stdout) <= 60
    assert int(left.stdout) != -1
    subprocess.run(["redis-cli", "-u", redis_url, "del", key], capture_output=True, check=True)
    await check_start(fleet(redis_url, tmp_path / "data"), waits=False)
    kept = subprocess.run(["redis-cli", "-u", redis_url, "ttl", key], capture_output=True, text=True, check=True)
    assert int(kept.stdout) == -1, "the mark of a storage that is there does not end"


async def test_a_storage_that_another_process_makes_slowly_is_waited_for(redis_url: str, tmp_path: Path) -> None:
    settings = fleet(redis_url, tmp_path / "data")
    async with JobQueue(settings, Metrics()) as queue:
        assert await queue.claim_storage("mark")
        starting = asyncio.create_task(check_start(settings, waits=False))
        await asyncio.sleep(2.5)
        assert not starting.done()
        Storage(str(tmp_path / "data")).make("mark")
        assert await queue.storage_mark("mark") == "mark"
        await starting


@pytest.mark.parametrize("url", ["nowhere://bucket/prefix", "s4://bucket"])
async def test_an_unknown_kind_of_storage_is_refused(url: str) -> None:
    assert f"VSG_DATA is '{url}': give a folder such as /data, or a URL" in await refusal(load_settings({"data": url}))


@pytest.mark.parametrize("place", ["a file", "below a file", "a folder of the kernel"])
async def test_a_folder_that_cannot_be_written_is_refused(place: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    folder = {"a file": file, "below a file": file / "data", "a folder of the kernel": Path("/proc/data")}[place]
    assert f"VSG_DATA is '{folder}': " in await refusal(load_settings({"data": str(folder)}))


async def test_a_redis_that_refuses_the_service_is_named_without_its_password(redis_url: str, tmp_path: Path) -> None:
    for url in (redis_url.replace("//", "//me:hunter2@"), redis_url[:-1] + "99"):
        text = await refusal(fleet(url, tmp_path / "data"))
        assert "Redis at VSG_QUEUE_URL refuses this service" in text
        assert "hunter2" not in text


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_the_command_line_says_it_in_one_line(command: str, redis_url: str, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = {
        "DATA": str(tmp_path / "file" / "data"),
        "QUEUE_URL": redis_url,
        "BUNDLES": str(tiny_bundle),
        "PORT": "0",
    }
    environment = os.environ | {f"VSG_{name}": value for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-m", "service.command_line", command], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # those are the log's
    assert len(lines) == 1
    assert lines[0].startswith(f"Error: VSG_DATA is '{tmp_path / 'file' / 'data'}': ")


def test_a_worker_waits_for_redis() -> None:
    (listener,) = listen("127.0.0.1", 0, named="a free port")
    port = listener.getsockname()[1]
    listener.close()
    environment = os.environ | {"VSG_QUEUE_URL": f"redis://127.0.0.1:{port}/0", "VSG_DATA": "/tmp/vsg-none"}
    command = [sys.executable, "-m", "service.command_line", "worker", "--engine", "stub"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        said = next(line for line in worker.stderr if "does not answer" in line)
        assert "Traceback" not in said
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(5)
        worker.terminate()
        assert worker.wait(120) == 0

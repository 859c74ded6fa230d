"""API and workers as separate processes that share a real Redis and a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from tests.support.ports import unused_port
from tests.support.waiting import until

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(redis_url: str, tiny_bundle: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts `vsg` commands that share a queue and a folder; stops them at the end."""
    environment = os.environ | {
        "VSG_QUEUE_URL": redis_url,
        "VSG_DATA": str(tmp_path / "data"),
        "VSG_ENGINE": "stub",
        "VSG_LEASE_SECONDS": "2",
    }
    with ExitStack() as stack:

        def start(*arguments: str, **more: str) -> subprocess.Popen[str]:
            if arguments[0] == "worker":
                arguments += ("--bundle", str(tiny_bundle))
            process = subprocess.Popen(
                [sys.executable, "-m", "service.command_line", *arguments],
                env=environment | more,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(_end, process)
            return process

        yield start


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def client(start: Start) -> Iterator[httpx.Client]:
    """Talks to an API without a worker."""
    place = f"http://127.0.0.1:{unused_port()}"
    # A line for every request would fill the pipe that nobody reads.
    start("serve", "--port", place.rpartition(":")[2], VSG_LOG_LEVEL="warning")
    until(lambda: _status(f"{place}/health/live") == 200)
    with httpx.Client(base_url=place, timeout=60, trust_env=False) as client:
        yield client


def post(client: httpx.Client, video: Path, prefer: str = "respond-async") -> httpx.Response:
    return client.post("/videos", files={"video": video.read_bytes()}, headers={"Prefer": prefer})


def test_a_job_waits_for_a_worker_and_survives_a_killed_one(
    start: Start, client: httpx.Client, clip: Path, long_clip: Path, tmp_path: Path
) -> None:
    problem = post(client, clip).json()
    assert problem["code"] == "unavailable"
    assert "no worker has started" in problem["detail"]
    slow = start("worker", VSG_STUB_SECONDS="5")
    until(lambda: client.get("/models").status_code == 200, 120)
    until(lambda: client.get("/health/ready").status_code == 200)
    place = post(client, long_clip).headers["location"]
    until(lambda: client.get(place).json()["status"] == "running")
    slow.send_signal(signal.SIGKILL)
    slow.wait()
    assert client.get(place).json()["status"] == "running", "nobody is told that it failed"
    start("worker")
    until(lambda: client.get(place).json()["status"] == "succeeded")
    until(lambda: not list((tmp_path / "data" / "uploads").iterdir()))


def test_a_stopped_worker_finishes_what_it_can_and_hands_back_the_rest(
    start: Start, client: httpx.Client, clip: Path, long_clip: Path
) -> None:
    first = start("worker", VSG_STUB_SECONDS="1", VSG_SHUTDOWN_SECONDS="20")
    until(lambda: client.get("/models").status_code == 200, 120)
    short, long = (post(client, video).headers["location"] for video in (clip, long_clip))
    for place in (short, long):  # its decoder has begun
        until(lambda place=place: client.get(place).json().get("progress", {}).get("expected"))
    began = time.monotonic()
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    assert time.monotonic() - began < 60, "it does not make the long one first"
    assert client.get(short).json()["status"] == "succeeded"
    assert client.get(long).json()["status"] == "running"
    start("worker")
    until(lambda: client.get(long).json()["status"] == "succeeded")


def test_a_worker_reports_health_and_metrics(start: Start, client: httpx.Client, clip: Path) -> None:
    port = unused_port()
    worker = start("worker", "--metrics-port", str(port))
    place = f"http://127.0.0.1:{port}"
    until(lambda: _status(f"{place}/health/ready") == 200)
    assert _status(f"{place}/health/live") == 200
    assert post(client, clip, "wait=60").status_code == 200
    assert 'vsg_jobs_total{status="succeeded"} 1.0' in _metrics(port)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def _metrics(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    except httpx.TransportError:  # it does not listen yet
        return ""


def _status(url: str) -> int | None:
    try:
        return httpx.get(url, trust_env=False).status_code
    except httpx.TransportError:
        return None


def test_a_worker_without_a_redis_queue_is_refused_with_a_remedy(start: Start) -> None:
    worker = start("worker", VSG_QUEUE_URL="memory://")
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert "--redis redis://HOST" in said


def test_a_job_is_blamed_for_a_crashed_worker_but_not_for_a_killed_one(
    start: Start, client: httpx.Client, redis_url: str, long_clip: Path
) -> None:
    with redis.Redis.from_url(redis_url) as records:
        place = ""

        def counted(name: str) -> int:
            (key,) = records.keys(f"*video:{place.rpartition('/')[2]}")
            return int(records.hget(key, name) or 0)

        for attempt, dies in enumerate(("parent", "worker", "worker", "worker"), 1):
            port = unused_port()
            parent = start("worker", "--metrics-port", str(port), VSG_STUB_SECONDS="3600")
            until(lambda: client.get("/models").status_code == 200, 120)
            place = place or post(client, long_clip).headers["location"]
            # A job is counted as begun a moment before its worker tells the parent that it is under way.
            until(lambda port=port: "vsg_jobs_running 1.0" in _metrics(port), 120)
            assert counted("begun") == attempt
            (worker,) = psutil.Process(parent.pid).children()
            (parent if dies == "parent" else worker).send_signal(signal.SIGKILL)
            assert parent.wait(60) == (-9 if dies == "parent" else 128 + 9)
            worker.wait(60)
            assert counted("crashes") == attempt - 1
        start("worker")
        until(lambda: client.get(place).json().get("code") == "worker_crashed", 120)

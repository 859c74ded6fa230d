"""Checks that a fleet loses nothing when its workers, Redis and API are killed while videos are posted.

    .venv/bin/python -m benchmarks.reliability [--videos 200] [--json]

Three workers with the stub engine share a real, append-only Redis and a folder. Clients post different videos, each
with an `Idempotency-Key`, and post again when they get no answer, as a client should. Every two seconds the program
kills a worker with SIGKILL and starts it again. After a third of the videos it kills Redis, after two thirds the API;
after a sixth and after a half the storage is away for some seconds.
In the end every accepted video must have succeeded exactly once, with the graph of its own content, and no upload and
no process may be left. Otherwise the program exits with 1. It needs `redis-server` and a checkout: it uses helpers of
the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import httpx
import psutil

from tests.support.bundles import make_tiny_bundle
from tests.support.ports import unused_port
from tests.support.videos import make_video
from tests.support.waiting import until

WORKERS = 3
CLIENTS = 4
KILL_SECONDS = 2.0
AWAY_SECONDS = 4.0
POST_SECONDS = 0.25  # between two videos of all clients together
PATIENCE = 600.0


class Fleet:
    """Redis, the API and the workers as processes, each of which can be killed and started again."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder = folder
        self.redis_port, self.api_port = unused_port(), unused_port()
        self.killed: Counter[str] = Counter()
        self._environment = os.environ | {
            "VSG_QUEUE_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "VSG_DATA": str(folder / "data"),
            "VSG_BUNDLES": str(bundle),
            "VSG_ENGINE": "stub",
            "VSG_CONCURRENCY": "1",
            "VSG_LEASE_SECONDS": "4",
            "VSG_SWEEP_SECONDS": "2",
            "VSG_UPLOAD_IDLE_SECONDS": "10",
            "VSG_QUEUE_LIMIT": "1000",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "redis").mkdir()

    @property
    def names(self) -> list[str]:
        """Names of all processes."""
        return ["redis", "api", *(f"worker-{number}" for number in range(WORKERS))]

    def start(self, name: str) -> None:
        """Starts one process."""
        kind = name.partition("-")[0]
        append_only = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        commands = {
            "redis": [
                *("redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1"),
                *("--dir", str(self.folder / "redis"), *append_only),
            ],
            "api": [sys.executable, "-m", "service.command_line", "serve", "--port", str(self.api_port)],
            "worker": [sys.executable, "-m", "service.command_line", "worker"],
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                commands[kind], env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """Kills one process with SIGKILL and starts it again."""
        self.killed[name.partition("-")[0]] += 1
        self._processes[name].kill()
        self._processes[name].wait()
        self.start(name)

    def take_storage_away(self) -> None:
        """Takes the storage away for some seconds, in the background, as when a disk is not mounted."""
        self.killed["storage"] += 1
        threading.Thread(target=self._take_storage_away).start()

    def _take_storage_away(self) -> None:
        data = self.folder / "data"
        elsewhere = data.rename(self.folder / "elsewhere")
        time.sleep(AWAY_SECONDS)
        elsewhere.rename(data)

    def stop(self) -> None:
        """Stops all processes, the workers first."""
        for name in reversed(self.names):
            if name in self._processes:
                self._processes[name].send_signal(signal.SIGTERM)
                self._processes[name].wait(60)

    def left_processes(self) -> list[str]:
        """Returns the command lines of processes that still run; decoders have the environment of their worker."""
        left = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("VSG_DATA") == self._environment["VSG_DATA"]:
                    left.append(" ".join(process.cmdline()))
        return left


def posted(fleet: Fleet, content: bytes, key: str, answers: Counter[str]) -> str:
    """Posts a video until it is accepted; returns its id. Raises AssertionError where it is refused."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{fleet.api_port}/videos",
                files={"video": content},
                headers={"Prefer": "respond-async", "Idempotency-Key": key},
                timeout=30,
                trust_env=False,
            )
        except httpx.TransportError:
            answers["no answer"] += 1
        else:
            answers[str(answer.status_code)] += 1
            if answer.status_code in (200, 202):
                return answer.headers["location"].rpartition("/")[2]
            if answer.status_code < 500:
                raise AssertionError(f"a good video was refused: {answer.text}")
        time.sleep(0.2)
    raise AssertionError(f"a video was not accepted within {PATIENCE:g} s")


def graph_of(fleet: Fleet, video_id: str) -> dict[str, object]:
    """Returns the graph or the problem of a video that has ended; {} before that, and where the API does not answer."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{fleet.api_port}/videos/{video_id}", timeout=30, trust_env=False)
    except httpx.TransportError:
        return {}
    document: dict[str, object] = answer.json()
    is_over = document.get("status") == "succeeded" or document.get("job_id") == video_id
    return document if is_over or answer.status_code == 404 else {}


def run(folder: Path, videos: int) -> dict[str, object]:
    """Runs the whole scenario and returns its figures; raises AssertionError with what went wrong."""
    base = make_video(folder / "clip.mp4").read_bytes()
    # A box of free space at the end makes another file of the same video.
    contents = [base + struct.pack(">I4sQ", 16, b"free", number) for number in range(videos)]
    fleet = Fleet(folder, make_tiny_bundle(folder / "tiny"))
    with ExitStack() as stack:
        stack.callback(fleet.stop)
        for name in fleet.names:
            fleet.start(name)
        until(lambda: _is_ready(fleet), 120)
        began = time.monotonic()
        over = threading.Event()
        killer = threading.Thread(target=_kill_workers, args=(fleet, over))
        killer.start()
        stack.callback(over.set)

        answers: Counter[str] = Counter()
        ids: dict[int, str] = {}

        def post(number: int) -> None:
            time.sleep(max(0.0, began + number * POST_SECONDS - time.monotonic()))
            if number in (videos // 6, videos // 2):
                fleet.take_storage_away()
            if number == videos // 3:
                fleet.kill("redis")
            if number == 2 * videos // 3:
                fleet.kill("api")
            ids[number] = posted(fleet, contents[number], f"video {number}", answers)

        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(post, range(videos)))
        accepted_after = time.monotonic() - began
        graphs = {number: _wait_for(partial(graph_of, fleet, ids[number])) for number in range(videos)}
        done_after = time.monotonic() - began
        over.set()
        killer.join()

        failed = {number: graph for number, graph in graphs.items() if graph.get("status") != "succeeded"}
        assert not failed, f"{len(failed)} videos did not succeed: {list(failed.items())[:3]}"
        for number, content in enumerate(contents):
            video = graphs[number]["video"]
            assert isinstance(video, dict)
            assert video["sha256"] == hashlib.sha256(content).hexdigest(), "a graph of another video"
        results = [path for path in (folder / "data" / "results").rglob("*") if path.is_file()]
        finished = [path for path in results if path.suffix == ".json"]
        assert len(set(ids.values())) == len(finished) == videos, "a video was made twice, or a result is lost"
        until(lambda: not list((folder / "data" / "uploads").iterdir()), 120)
    until(lambda: not fleet.left_processes(), 60)
    begun_again = sum(log.read_text(errors="replace").count("job begun again") for log in folder.glob("worker-*.log"))
    return {
        "videos": videos,
        "succeeded": len(finished),
        "killed": dict(fleet.killed),
        "jobs begun again": begun_again,
        "answers to posts": dict(answers),
        "seconds until all were accepted": round(accepted_after, 1),
        "seconds until all had succeeded": round(done_after, 1),
        "left in uploads": 0,
        "left processes": 0,
        "results cut short by a kill": len(results) - len(finished),
    }


def _is_ready(fleet: Fleet) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{fleet.api_port}/health/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _kill_workers(fleet: Fleet, over: threading.Event) -> None:
    for number in itertools.count():
        if over.wait(KILL_SECONDS):
            return
        fleet.kill(f"worker-{number % WORKERS}")


def _wait_for(look: Callable[[], dict[str, object]]) -> dict[str, object]:
    limit = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < limit, f"a video has not ended within {PATIENCE:g} s"
        time.sleep(0.2)
    return found


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="kill the processes of a fleet while it works and count what is lost")
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsg-reliability-") as folder:
        figures = run(Path(folder), arguments.videos)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")


if __name__ == "__main__":
    main()

"""Checks that a fleet loses nothing when its workers, Redis and API are killed while videos are posted.

    .venv/bin/python -m benchmarks.reliability [--videos 200] [--storage folder] [--kill-seconds 2] [--json]

Three workers with the stub engine share a real, append-only Redis and a storage. Clients post different videos, each
with an `Idempotency-Key`, and post again when they get no answer, as a client should. Every two seconds the program
kills a worker with SIGKILL and starts it again (more seldom, where workers take long to start). At the same distances
over the whole run, in turn, the storage is away for some seconds, Redis is killed, the storage is full (a folder) or
slow (S3), and the API is killed.

`--storage folder` is a small disk in memory, which needs root to be mounted; as another user the folder is never full.
`--storage s3` is a bucket of moto's server, behind a proxy that breaks and slows the way to it.

In the end every accepted video must have succeeded exactly once, with the graph of its own content, and no upload and
no process may be left. Otherwise the program exits with 1. It needs `redis-server` and a checkout: it uses helpers of
the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx

from benchmarks.fleet import Fleet, end_on_sigterm
from benchmarks.storages import FailingStorage, failing_bucket, failing_folder
from tests.support.bundles import make_tiny_bundle
from tests.support.videos import make_video
from tests.support.waiting import until

WORKERS = 3
CLIENTS = 4
FEWEST_BETWEEN_FAULTS = 10  # videos
MOST_FAULTS = 12
POST_SECONDS = 0.25  # between two videos of all clients together
PATIENCE = 600.0


def posted(fleet: Fleet, content: bytes, key: str, answers: Counter[str]) -> str:
    """Posts a video until it is accepted; returns its id. Raises AssertionError where it is refused."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        try:
            answer = httpx.post(
                f"{fleet.url}/videos",
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
        answer = httpx.get(f"{fleet.url}/videos/{video_id}", timeout=30, trust_env=False)
    except httpx.TransportError:
        return {}
    document: dict[str, object] = answer.json()
    is_over = document.get("status") == "succeeded" or document.get("job_id") == video_id
    return document if is_over or answer.status_code == 404 else {}


class Faults:
    """What fails in turn while videos are posted."""

    def __init__(self, fleet: Fleet, storage: FailingStorage, videos: int) -> None:
        first, *others = storage.faults.items()
        turns = [first, ("redis", lambda: fleet.kill("redis")), *others, ("api", lambda: fleet.kill("api"))]
        distance = max(FEWEST_BETWEEN_FAULTS, videos // (MOST_FAULTS + 1))
        numbers = range(distance, videos, distance)
        self._due = {number: turns[index % len(turns)] for index, number in enumerate(numbers)}
        self._running: list[threading.Thread] = []
        self.count: Counter[str] = Counter()

    def before(self, number: int) -> None:
        """Begins, in the background, what is due before a video."""
        if number in self._due:
            name, fail = self._due[number]
            self.count[name] += 1
            self._running.append(threading.Thread(target=fail, name=name))
            self._running[-1].start()

    def end(self) -> None:
        """Waits until all is sound again."""
        for thread in self._running:
            thread.join()


def run(folder: Path, videos: int, kind: str, kill_seconds: float) -> dict[str, object]:
    """Runs the whole scenario and returns its figures; raises AssertionError with what went wrong.

    kind: of the storage, `folder` or `s3`.
    kill_seconds: between two workers that are killed.
    """
    base = make_video(folder / "clip.mp4").read_bytes()
    # A box of free space at the end makes another file of the same video.
    contents = [base + struct.pack(">I4sQ", 16, b"free", number) for number in range(videos)]
    with ExitStack() as stack:
        storage = stack.enter_context(failing_bucket(folder) if kind == "s3" else failing_folder(folder, videos=videos))
        fleet = Fleet(folder, make_tiny_bundle(folder / "tiny"), storage.environment, workers=WORKERS)
        stack.callback(fleet.stop)
        for name in fleet.names:
            fleet.start(name)
        until(fleet.is_ready, 240)
        began = time.monotonic()
        over = threading.Event()
        killer = threading.Thread(target=_kill_workers, args=(fleet, kill_seconds, over))
        killer.start()
        stack.callback(over.set)
        faults = Faults(fleet, storage, videos)
        stack.callback(faults.end)

        answers: Counter[str] = Counter()
        ids: dict[int, str] = {}

        def post(number: int) -> None:
            time.sleep(max(0.0, began + number * POST_SECONDS - time.monotonic()))
            faults.before(number)
            ids[number] = posted(fleet, contents[number], f"video {number}", answers)

        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(post, range(videos)))
        accepted_after = time.monotonic() - began
        graphs = {number: _wait_for(partial(graph_of, fleet, ids[number])) for number in range(videos)}
        done_after = time.monotonic() - began
        over.set()
        killer.join()
        faults.end()

        failed = {number: graph for number, graph in graphs.items() if graph.get("status") != "succeeded"}
        assert not failed, f"{len(failed)} videos did not succeed: {list(failed.items())[:3]}"
        for number, content in enumerate(contents):
            video = graphs[number]["video"]
            assert isinstance(video, dict)
            assert video["sha256"] == hashlib.sha256(content).hexdigest(), "a graph of another video"
        results = storage.names("results")
        finished = [name for name in results if name.endswith(".json")]
        assert len(set(ids.values())) == len(finished) == videos, "a video was made twice, or a result is lost"
        until(lambda: not storage.names("uploads"), 120)
        fleet.stop()
        until(lambda: not fleet.left_processes(), 60)
    begun_again = sum(log.read_text(errors="replace").count("job begun again") for log in folder.glob("worker-*.log"))
    return {
        "videos": videos,
        "succeeded": len(finished),
        "storage": kind,
        "killed": dict(fleet.killed),
        "failed in turn": dict(faults.count),
        "jobs begun again": begun_again,
        "answers to posts": dict(answers),
        "seconds until all were accepted": round(accepted_after, 1),
        "seconds until all had succeeded": round(done_after, 1),
        "left in uploads": 0,
        "left processes": 0,
        "results cut short by a kill": len(results) - len(finished),
    }


def _kill_workers(fleet: Fleet, seconds: float, over: threading.Event) -> None:
    for number in itertools.count():
        if over.wait(seconds):
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
    parser.add_argument("--storage", choices=("folder", "s3"), default="folder")
    parser.add_argument("--kill-seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="vsg-reliability-") as folder:
        figures = run(Path(folder), arguments.videos, arguments.storage, arguments.kill_seconds)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")


if __name__ == "__main__":
    main()

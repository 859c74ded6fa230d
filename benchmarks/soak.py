"""Keeps a fleet at work for a long time and watches whether anything grows.

    .venv/bin/python -m benchmarks.soak [--minutes 60] [--pause 0.5] [--plot docs/images/soak.png] [--json]

An API and two workers with the stub engine share a real Redis and a folder. Four clients post videos, most of them new,
some that are kept already, some that cannot be read; they follow some by events, read graphs, delete some, and hang up
now and then. Graphs are kept for two minutes at most, so that much of it comes and goes. Every few seconds the program
reads the resident memory, open files and threads of the API and of the workers with their decoders, the keys and the
memory of Redis, and the bytes of storage.

The first part of the time is a warm-up. After it, what the last quarter takes is compared with the quarter after the
warm-up: the program exits with 1 where memory, files, threads or keys have grown, or where a post had an answer that it
should not have. It needs `redis-server` and a checkout: it uses helpers of the tests.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import httpx
import psutil
from redis import Redis

from benchmarks.errors import BenchError
from benchmarks.fleet import Fleet, end_on_sigterm
from tests.support.bundles import make_tiny_bundle
from tests.support.videos import make_video
from tests.support.waiting import until

WORKERS = 2
CLIENTS = 4
MOST_RETENTION = 120.0
SAMPLES = 240  # over the whole time
LEAST_SECONDS = 2.0  # between two samples
WARM_UP = 0.25  # of the time
# Counts go up and down with the decoders that run and the graphs that are kept at a moment.
MOST_GROWTH = {
    "api_memory": 1.05,
    "worker_memory": 1.05,
    "redis_memory": 1.05,
    "files": 1.2,
    "threads": 1.2,
    "keys": 1.2,
}
ANSWERS = {"200", "202", "422"}  # that posts may have


@dataclass(frozen=True)
class Sample:
    """What a fleet takes at one moment.

    minutes: since the first sample.
    api_memory, worker_memory: resident MiB, of the workers with all that they have started.
    files, threads: of the API and the workers.
    keys, redis_memory: of Redis, the latter in MiB.
    stored: MiB of uploads and results.
    """

    minutes: float
    api_memory: float
    worker_memory: float
    files: int
    threads: int
    keys: int
    redis_memory: float
    stored: float


def sample(fleet: Fleet, redis: Redis, data: Path, began: float) -> Sample:
    """Measures a fleet at this moment."""
    api = fleet.family("api")
    workers = [process for name in fleet.names if name.startswith("worker") for process in fleet.family(name)]
    return Sample(
        minutes=(time.monotonic() - began) / 60,
        api_memory=_sum(api, lambda process: process.memory_info().rss) / 2**20,
        worker_memory=_sum(workers, lambda process: process.memory_info().rss) / 2**20,
        files=_sum([*api, *workers], lambda process: process.num_fds()),
        threads=_sum([*api, *workers], lambda process: process.num_threads()),
        keys=redis.dbsize(),
        redis_memory=redis.info("memory")["used_memory"] / 2**20,
        stored=sum(_size(path) for path in data.rglob("*")) / 2**20,
    )


def _sum(processes: list[psutil.Process], measure: Callable[[psutil.Process], int]) -> int:
    total = 0
    for process in processes:
        with suppress(psutil.Error):  # a decoder has just ended
            total += measure(process)
    return total


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size if path.is_file() else 0
    return 0


class Client:
    """A caller that does what callers do, from a seed."""

    def __init__(self, fleet: Fleet, clip: bytes, number: int, pause: float, answers: Counter[str]) -> None:
        """
        number: of this client, from 0.
        pause: seconds between two videos.
        answers: counts the answers to posts by status, and the errors by name.
        """
        self._url = fleet.url
        self._clip = clip
        self._number = number
        self._pause = pause
        self._random = Random(f"client {number}")
        self._answers = answers
        self._posted = 0

    def work(self, over: threading.Event) -> None:
        """Posts until it is over."""
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            while not over.wait(self._pause):
                try:
                    self._turn(client)
                except httpx.HTTPError as error:
                    self._answers[type(error).__name__] += 1

    def _turn(self, client: httpx.Client) -> None:
        self._posted += 1
        kind = self._random.random()
        # A box of free space at the end makes another file of the same video.
        number = 0 if kind < 0.2 else self._posted * CLIENTS + self._number
        content = self._clip + struct.pack(">I4sQ", 16, b"free", number)
        if kind > 0.95:
            content = content[:300]
        if 0.9 < kind < 0.92:
            with suppress(httpx.TimeoutException):  # hangs up
                client.post("/videos", files={"video": content}, timeout=0.05)
            return
        waits = {"prefer": "respond-async"} if kind < 0.5 else {}
        answer = client.post("/videos", files={"video": content}, headers=waits)
        self._answers[str(answer.status_code)] += 1
        if answer.status_code not in (200, 202):
            return
        place = answer.headers["location"]
        if answer.status_code == 202 and kind < 0.4:
            with client.stream("GET", f"{place}/events") as events:
                for _ in events.iter_lines():
                    pass
        client.get(f"{place}/prompt")
        if kind < 0.3:
            client.delete(place)


def growth(samples: list[Sample]) -> dict[str, float]:
    """How many times as much the last quarter takes as the quarter after the warm-up, on average."""
    used = samples[int(len(samples) * WARM_UP) :]
    quarter = max(1, len(used) // 4)

    def mean(part: list[Sample], name: str) -> float:
        return float(sum(getattr(each, name) for each in part) / len(part))

    return {name: round(mean(used[-quarter:], name) / mean(used[:quarter], name), 3) for name in MOST_GROWTH}


def run(folder: Path, minutes: float, pause: float) -> tuple[list[Sample], Counter[str]]:
    """Keeps a fleet at work; returns samples, and counts of the answers to posts.

    pause: seconds between two videos of one client.
    """
    clip = make_video(folder / "clip.mp4").read_bytes()
    data = folder / "data"
    fleet = Fleet(
        folder,
        make_tiny_bundle(folder / "tiny"),
        {"VSG_DATA": str(data)},
        workers=WORKERS,
        concurrency="4",
        # What is kept must have come and gone before the warm-up is over.
        retention=str(min(MOST_RETENTION, minutes * 60 * WARM_UP / 3)),
        stall_seconds="60",
        decode_seconds="30",
        log_level="warning",
    )
    answers: Counter[str] = Counter()
    samples: list[Sample] = []
    with ExitStack() as stack:
        stack.callback(fleet.stop)
        for name in fleet.names:
            fleet.start(name)
        until(fleet.is_ready, 240)
        redis = stack.enter_context(Redis(port=fleet.redis_port))
        over = threading.Event()
        clients = [
            threading.Thread(target=Client(fleet, clip, number, pause, answers).work, args=(over,))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        began = time.monotonic()
        try:
            while (elapsed := time.monotonic() - began) < minutes * 60:
                samples.append(sample(fleet, redis, data, began))
                pause = max(LEAST_SECONDS, minutes * 60 / SAMPLES)
                time.sleep(max(0.0, min(pause, minutes * 60 - elapsed)))
        finally:
            over.set()
            for client in clients:
                client.join()
    return samples, answers


def plot(samples: list[Sample], path: Path) -> None:
    """Draws the samples into an image."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    panels = {
        "memory of the API in MiB": ("api_memory",),
        "memory of workers and decoders in MiB": ("worker_memory",),
        "memory of Redis in MiB": ("redis_memory",),
        "files and threads": ("files", "threads"),
        "keys in Redis": ("keys",),
        "storage in MiB": ("stored",),
    }
    minutes = [each.minutes for each in samples]
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6), sharex=True, layout="constrained")
    for axis, (title, names) in zip(axes.flat, panels.items(), strict=True):
        for name in names:
            axis.plot(minutes, [getattr(each, name) for each in samples], label=name.replace("_", " "), linewidth=1)
        axis.set_title(title, fontsize=10)
        axis.set_ylim(bottom=0, top=1.15 * max(getattr(each, name) for each in samples for name in names))
        axis.axvspan(0, minutes[-1] * WARM_UP, color="0.92")
        if len(names) > 1:
            axis.legend(fontsize=8, loc="lower right")
    for axis in axes[1]:
        axis.set_xlabel("minutes (grey: warm-up)", fontsize=9)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="keep a fleet at work for a long time and watch whether it grows")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two videos of one client")
    parser.add_argument("--plot", type=Path, help="image to write")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="vsg-soak-") as folder:
        samples, answers = run(Path(folder), arguments.minutes, arguments.pause)
    if len(samples) < 16:
        raise BenchError(f"--minutes is {arguments.minutes:g}: give at least 1, for samples enough to compare")
    grown = growth(samples)
    figures = {
        "minutes": arguments.minutes,
        "samples": len(samples),
        "answers to posts": dict(answers),
        "first": asdict(samples[0]),
        "last": asdict(samples[-1]),
        "last quarter by the one after the warm-up": grown,
    }
    if arguments.plot is not None:
        plot(samples, arguments.plot)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:42} {value}")
    if wrong := answers.keys() - ANSWERS:
        raise SystemExit(f"answers to posts were {dict(answers)}: {sorted(wrong)} are wrong")
    too_much = {name: factor for name, factor in grown.items() if factor > MOST_GROWTH[name]}
    if too_much:
        raise SystemExit(f"grown: {too_much}, where at most {MOST_GROWTH} is right")


if __name__ == "__main__":
    main()

"""Measures how fast the API answers under load; the API, a worker and Redis run as processes of their own.

    .venv/bin/python -m benchmarks.latency [--clients 50] [--streams 200] [--seconds 20] [--json]

- `GET /videos/{id}` of jobs that wait, run and are done. Each client keeps its connection and asks once a second; then
  the same clients ask without a pause.
- `POST /videos` of 5 MB with `Prefer: respond-async`. Each client sends a megabyte per second, as over a network; the
  time is that from the last byte to the answer. The uploads overlap and do not end together.
- Streams of events: how long it takes to open all of them, what they cost while nothing happens, and how long after
  the job was deleted the last of them gets its `end`.

Times are in milliseconds. They depend on the machine and on what else runs there; `load` is the load average. The
program needs `redis-server` and a checkout: it uses helpers of the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import redis

from tests.support.bundles import make_tiny_bundle
from tests.support.ports import unused_port
from tests.support.processes import ServiceProcess, serve_process, start
from tests.support.videos import make_video
from tests.support.waiting import until

UPLOAD_BYTES = 5_000_000
UPLOAD_RATE = 1_000_000
PIECE_BYTES = 50_000
UPLOADS_EACH = 3


@dataclass
class Client:
    """One connection that is kept for one request after the other."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, port: int) -> Client:
        """Opens a connection to the service."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, place: str) -> float:
        """Sends a GET; returns the seconds until the answer. Raises AssertionError where its status is not 200."""
        began = time.perf_counter()
        self.writer.write(f"GET {place} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status, _ = await self.answer()
        assert status == 200, f"{place} was answered with {status}"
        return time.perf_counter() - began

    async def answer(self) -> tuple[int, bytes]:
        """Reads the next answer; returns its status and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None, head
        return int(head.split()[1]), await self.reader.readexactly(int(length[1]))

    async def close(self) -> None:
        """Closes the connection."""
        self.writer.close()
        await self.writer.wait_closed()


async def measure_get(
    service: ServiceProcess, places: list[str], clients: int, seconds: float, pause: float
) -> Figures:
    """Lets each client GET the places in turn, once every `pause` seconds, for `seconds` seconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def poll(number: int) -> None:
        client = await Client.connect(service.port)
        await asyncio.sleep(pause * number / clients)
        due, asked = time.perf_counter(), number
        while time.perf_counter() < end:
            times.append(await client.ask(places[asked % len(places)]))
            asked += 1
            due += pause
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await client.close()

    return await _measured(service, times, (poll(number) for number in range(clients)))


async def measure_post(service: ServiceProcess, contents: Callable[[], bytes], clients: int) -> Figures:
    """Posts videos at a steady rate; measures the time from the last byte to the answer."""
    times: list[float] = []
    head = (
        "POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nPrefer: respond-async\r\n"
        f"Content-Length: {UPLOAD_BYTES}\r\n\r\n"
    ).encode()

    async def post(number: int) -> None:
        client = await Client.connect(service.port)
        await asyncio.sleep(UPLOAD_BYTES / UPLOAD_RATE * number / clients)
        for _ in range(UPLOADS_EACH):
            content = contents()
            client.writer.write(head)
            due = time.perf_counter()
            for begin in range(0, len(content), PIECE_BYTES):
                client.writer.write(content[begin : begin + PIECE_BYTES])
                await client.writer.drain()
                sent = time.perf_counter()
                due += PIECE_BYTES / UPLOAD_RATE
                if begin + PIECE_BYTES < len(content):
                    await asyncio.sleep(max(0.0, due - sent))
            status, body = await client.answer()
            assert status == 202, body
            times.append(time.perf_counter() - sent)
        await client.close()

    return await _measured(service, times, (post(number) for number in range(clients)))


async def measure_streams(service: ServiceProcess, place: str, queue: redis.Redis, streams: int) -> Figures:
    """Opens streams of one job that waits, leaves them alone for a while, then deletes the job."""
    request = f"GET {place}/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    memory, connections = service.process.memory_info().rss, len(queue.client_list())
    began = time.perf_counter()

    async def follow() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(request)
        await reader.readuntil(b"event: progress")
        return reader, writer

    opened = await asyncio.gather(*(follow() for _ in range(streams)))
    figures: Figures = {
        "streams": streams,
        "seconds to open all": time.perf_counter() - began,
        "connections to Redis more": len(queue.client_list()) - connections,
        "MiB more": (service.process.memory_info().rss - memory) / 2**20,
        "threads": service.process.num_threads(),
    }
    cpu = _cpu_seconds(service)
    await asyncio.sleep(5)
    figures["share of a core while nothing happens"] = (_cpu_seconds(service) - cpu) / 5
    began = time.perf_counter()
    httpx.delete(service.url + place, timeout=60, trust_env=False).raise_for_status()
    rests = await asyncio.gather(*(asyncio.wait_for(reader.read(), 60) for reader, _ in opened))
    figures["seconds until all had their end"] = time.perf_counter() - began
    figures["streams with an end"] = sum(b"event: end" in rest for rest in rests)
    for _, writer in opened:
        writer.close()
    return figures


Figures = dict[str, float]


async def _measured(
    service: ServiceProcess, times: list[float], clients: Iterable[Coroutine[Any, Any, None]]
) -> Figures:
    cpu, began = _cpu_seconds(service), time.perf_counter()
    await asyncio.gather(*clients)
    took = time.perf_counter() - began
    milliseconds = np.array(times) * 1000
    return {
        "requests": len(times),
        "per second": len(times) / took,
        "p50 ms": float(np.percentile(milliseconds, 50)),
        "p95 ms": float(np.percentile(milliseconds, 95)),
        "most ms": float(milliseconds.max()),
        "cores of the API": (_cpu_seconds(service) - cpu) / took,
        "load": os.getloadavg()[0],
    }


def _cpu_seconds(service: ServiceProcess) -> float:
    times = service.process.cpu_times()
    return times.user + times.system


def run(folder: Path, clients: int, streams: int, seconds: float) -> dict[str, Figures]:
    """Runs all measurements; returns their figures by name."""
    redis_port = unused_port()
    settings = {
        "queue_url": f"redis://127.0.0.1:{redis_port}/0",
        "data": folder / "data",
        "bundles": make_tiny_bundle(folder / "tiny"),
        "engine": "stub",
        "queue_limit": 100_000,
        "log_level": "warning",
    }
    with ExitStack() as stack:
        server = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        stack.callback(_end, subprocess.Popen(server, stdout=subprocess.DEVNULL))
        queue = stack.enter_context(redis.Redis(port=redis_port))
        until(lambda: _answers(queue))
        # One slow worker: one job runs, some are done, the others wait.
        slow: dict[str, Any] = {**settings, "concurrency": 1, "stub_seconds": 0.5}
        worker = start("worker", folder / "worker.log", **slow)
        stack.callback(lambda: _end(worker))
        service = stack.enter_context(serve_process(folder, **settings))

        until(lambda: httpx.get(f"{service.url}/models", trust_env=False).status_code == 200, 120)
        base = make_video(folder / "clip.mp4").read_bytes()
        numbers = iter(range(10**9))

        def content() -> bytes:
            free = UPLOAD_BYTES - len(base)  # a box of free space at the end makes another file of the same video
            return base + struct.pack(">I4sQ", free, b"free", next(numbers)) + bytes(free - 16)

        long = make_video(folder / "long.mp4", seconds=120, rate=1).read_bytes()

        def posted(video: bytes, **options: str) -> str:
            headers = {"content-type": "video/mp4", "prefer": "respond-async"}
            answer = httpx.post(
                f"{service.url}/videos", content=video, headers=headers, params=options, trust_env=False
            )
            return answer.raise_for_status().headers["location"]

        done = [posted(content()) for _ in range(5)]
        until(lambda: all(_status(service, place) == "succeeded" for place in done), 120)
        running = posted(long, fps="1")
        waiting = [posted(content()) for _ in range(5)]
        until(lambda: _status(service, running) == "running", 60)
        places = [*done, running, *waiting]
        figures = {
            f"GET, {clients} clients, one a second": measure_get(service, places, clients, seconds, 1.0),
            f"GET, {clients} clients without a pause": measure_get(service, places, clients, seconds / 2, 0.0),
            f"POST, {clients} clients at 1 MB/s": measure_post(service, content, clients),
            "streams": measure_streams(service, waiting[-1], queue, streams),
        }

        async def measure() -> dict[str, Figures]:
            return {name: await measurement for name, measurement in figures.items()}

        return asyncio.run(measure())


def _status(service: ServiceProcess, place: str) -> str:
    status: str = httpx.get(service.url + place, timeout=60, trust_env=False).json()["status"]
    return status


def _answers(queue: redis.Redis) -> bool:
    try:
        return bool(queue.ping())
    except redis.ConnectionError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(60)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="measure how fast the API answers under load")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsg-latency-") as folder:
        figures = run(Path(folder), arguments.clients, arguments.streams, arguments.seconds)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        print(name)
        for what, value in values.items():
            print(f"  {what:38} {value:.2f}")


if __name__ == "__main__":
    main()

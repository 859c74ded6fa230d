"""The service as a process of its own, and clients that post videos to it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.errors import BenchError
from benchmarks.service.processes import PeakMemory, cpu_seconds
from service.settings import ENV_PREFIX

_START_SECONDS = 300.0
_FRAME_INDEX = re.compile(rb'^\{"index":', re.MULTILINE)


@dataclass(frozen=True)
class Load:
    """The rates of a service under a number of clients, each of which posts one video after the other.

    frames: frames in all graphs.
    fps: frames per second.
    latencies: seconds from the beginning of each request to the end of its answer, sorted.
    batch_sizes: numbers of batches by stage and by upper bound of their size.
    busy: share of the time that the engine's threads were busy.
    service_cpu: seconds of processor time of the service's process, without its decoders.
    peak_memory_mib: peak memory of the service and its decoders.
    """

    clients: int
    frames: int
    fps: float
    latencies: list[float]
    batch_sizes: dict[str, dict[str, int]]
    busy: float
    service_cpu: float
    peak_memory_mib: float


class BenchServer:
    """A running `vsg serve`."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], streams: int) -> None:
        self._url = url
        self._process = process
        self._streams = streams

    def load(self, video: Path, query: str, *, clients: int, videos_each: int) -> Load:
        """Lets clients post the video at the same time, each `videos_each` times.

        Raises BenchError where an answer is not a graph.
        """
        content = video.read_bytes()
        answers: list[tuple[float, int]] = []
        errors: list[Exception] = []

        def post() -> None:
            try:
                for _ in range(videos_each):
                    began = time.perf_counter()
                    frames = self._post(content, query)
                    answers.append((time.perf_counter() - began, frames))
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=post, name=f"vsg-client-{number}") for number in range(clients)]
        before, cpu = self._metrics(), cpu_seconds(self._process.pid)
        with PeakMemory(self._process.pid) as memory:
            began = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - began
        if errors:
            raise BenchError(f"the service did not answer with a graph: {errors[0]}")
        after = self._metrics()
        frames = sum(count for _, count in answers)
        busy = sum(_changes(before, after, "vsg_engine_seconds_total").values())
        return Load(
            clients=clients,
            frames=frames,
            fps=frames / seconds,
            latencies=sorted(latency for latency, _ in answers),
            batch_sizes=_batch_sizes(before, after),
            busy=min(1.0, busy / (seconds * self._streams)),
            service_cpu=cpu_seconds(self._process.pid) - cpu,
            peak_memory_mib=memory.mebibytes,
        )

    def _post(self, content: bytes, query: str) -> int:
        """Posts a video and returns how many frames its graph has."""
        headers = {"content-type": "video/mp4", "prefer": "wait=3600"}
        request = Request(f"{self._url}/videos?{query}", data=content, headers=headers, method="POST")
        with urlopen(request, timeout=3600) as answer:
            graph: bytes = answer.read()
            if answer.status != 200:
                raise BenchError(f"status {answer.status}; allow the service to wait longer")
        return len(_FRAME_INDEX.findall(graph))

    def _metrics(self) -> Mapping[tuple[str, str, str], float]:
        """Returns values by name of the sample, stage and upper bound of the bucket."""
        with urlopen(f"{self._url}/metrics", timeout=60) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, sample.labels.get("stage", ""), sample.labels.get("le", "")): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith(("vsg_batch_size_bucket", "vsg_engine_seconds_total"))
        }


@contextmanager
def serving(bundle: Path, environment: Mapping[str, str], *, streams: int) -> Iterator[BenchServer]:
    """Starts `vsg serve` on a free port, waits until it is ready, and stops it. Raises BenchError where it fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "PORT": port,
        "BUNDLES": bundle,
        "LOG_LEVEL": "warning",
        "MAX_WAIT": 3600,
        "REUSE_RESULTS": "false",  # the same video is posted again and again
        **environment,
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.command_line", "serve"],
            env=os.environ | {ENV_PREFIX + name: str(value) for name, value in settings.items()},
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            limit = time.monotonic() + _START_SECONDS
            while not _is_ready(url):
                if process.poll() is not None or time.monotonic() > limit:
                    log.seek(0)
                    raise BenchError(f"the service did not start: {log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.1)
            yield BenchServer(url, process, streams)
        finally:
            process.terminate()
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _changes(
    before: Mapping[tuple[str, str, str], float], after: Mapping[tuple[str, str, str], float], name: str
) -> dict[tuple[str, str], float]:
    return {key[1:]: value - before.get(key, 0.0) for key, value in after.items() if key[0] == name}


def _batch_sizes(
    before: Mapping[tuple[str, str, str], float], after: Mapping[tuple[str, str, str], float]
) -> dict[str, dict[str, int]]:
    sizes: dict[str, dict[str, int]] = {}
    so_far: dict[str, float] = {}
    # Buckets count all up to their bound, and come in order.
    for (stage, bound), count in _changes(before, after, "vsg_batch_size_bucket").items():
        if count > so_far.get(stage, 0.0):
            sizes.setdefault(stage, {})[bound.removesuffix(".0")] = int(count - so_far.get(stage, 0.0))
            so_far[stage] = count
    return sizes

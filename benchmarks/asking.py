"""Measures `GET /search` with many clients at once: `python -m benchmarks.asking FOLDER`.

FOLDER is the archive that `python -m benchmarks.search FOLDER` has made. A real service serves it on two cores; each
client sends questions of its kinds one after the other, with words of its own, since a service remembers what it was
asked just now.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
import httpx

from models.graph.vocabulary import ACTION_GENOME
from service.keys import key_line

MOST_P95: Final = 1.0  # seconds
KINDS: Final = ("person P P for 2s", "(person a P P) during (a Q Q)", "person a P P then within 5s a Q Q")
PREDICATES: Final = [
    predicate for group in ACTION_GENOME.groups if not group.runs_from_object for predicate in group.predicates
]
THINGS: Final = [f'"{label}"' for label in ACTION_GENOME.objects if label not in ACTION_GENOME.subjects]
OWNER: Final = "somebody"  # of the synthetic videos
_KEY: Final = "key of the benchmark"
_START_SECONDS: Final = 120.0


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--clients", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--searches", type=click.IntRange(min=1), default=30, show_default=True, help="Of each client.")
@click.option("--cores", type=click.IntRange(min=1), default=2, show_default=True, help="Of the service.")
def main(folder: Path, clients: int, searches: int, cores: int) -> None:
    """Prints the seconds that searches take, and fails where the 95th percentile is over its limit."""
    with serving(folder, cores) as url:
        ask(url, -1, len(KINDS))  # the service reads the archive for the first time
        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as threads:
            seconds = sorted(
                second
                for asked in threads.map(lambda number: ask(url, number, searches), range(clients))
                for second in asked
            )
        rate = len(seconds) / (time.perf_counter() - began)
    cuts = statistics.quantiles(seconds, n=100)
    figures = {"clients": clients, "searches": len(seconds), "p50": round(cuts[49], 3), "p95": round(cuts[94], 3)}
    click.echo(json.dumps(figures | {"most": round(seconds[-1], 3), "a second": round(rate, 2)}))
    if cuts[94] > MOST_P95:
        raise click.ClickException(f"the 95th percentile is {cuts[94]:.2f} s, over {MOST_P95:g} s")


def ask(url: str, seed: int, count: int) -> list[float]:
    """The seconds of so many searches, one after the other. Raises HTTPStatusError where one fails."""
    words = random.Random(seed)
    seconds = []
    bearer = {"Authorization": f"Bearer {_KEY}"}
    with httpx.Client(base_url=url, headers=bearer, timeout=120, trust_env=False) as client:
        for number in range(count):
            query = KINDS[(number + seed) % len(KINDS)]
            for place in ("P", "Q"):
                query = query.replace(f"{place} {place}", f"{words.choice(PREDICATES)} {words.choice(THINGS)}")
            began = time.perf_counter()
            client.get("/search", params={"q": query}).raise_for_status()
            seconds.append(time.perf_counter() - began)
    return seconds


@contextmanager
def serving(folder: Path, cores: int) -> Iterator[str]:
    """The URL of a service that keeps this archive, on so many cores. Its models invent results."""
    with tempfile.TemporaryDirectory(prefix="vsg-asking-") as place:
        keys, port = Path(place) / "keys", _unused_port()
        keys.write_text(key_line(OWNER, _KEY) + "\n")
        settings = {
            "ARCHIVE": str(folder),
            "BUNDLES": "arn-compact",
            "DATA": f"{place}/data",
            "ENGINE": "stub",
            "KEYS": str(keys),
            "LOG_LEVEL": "warning",
            "PORT": str(port),
        }
        environment = os.environ | {f"VSG_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "service.command_line", "serve"]
        pinned = ["taskset", "--cpu-list", f"0-{cores - 1}"] if shutil.which("taskset") else []
        with subprocess.Popen([*pinned, *command], env=environment) as service:
            try:
                yield _until_ready(f"http://127.0.0.1:{port}", service)
            finally:
                service.terminate()


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _until_ready(url: str, service: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and service.poll() is None:
        try:
            if httpx.get(f"{url}/health/live", trust_env=False).is_success:
                return url
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise click.ClickException("the service does not start: its log says why")


if __name__ == "__main__":
    main()

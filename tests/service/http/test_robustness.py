"""Malformed requests and decoder bombs, sent to a real process: it answers, lives, and keeps nothing of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks import robustness
from tests.support.bombs import make_bombs
from tests.support.processes import ServiceProcess, serve_process

DECODE_SECONDS = 4
DECODER_BYTES = 2**30
PLAYABLE = {
    "sample entry of 32768x32768",
    "billion times",
    "four billion frames per second",
    "a frame lasts for years",
}
"""What these declare is wrong, but the few frames that they hold can be shown."""
CODES = {"video_unreadable", "video_too_large", "decode_memory", "decode_timeout"}


def test_malformed_requests_do_no_harm(tmp_path: Path) -> None:
    figures = robustness.run(tmp_path, requests=60, seed=1)
    assert figures["requests"] == 60


@pytest.mark.bench
@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_malformed_requests_do_no_harm(tmp_path: Path, seed: int) -> None:
    figures = robustness.run(tmp_path, requests=1000, seed=seed)
    assert figures["requests"] == 1000


@contextmanager
def most_memory(service: ServiceProcess) -> Iterator[list[int]]:
    """The most resident bytes that a decoder of the service had; filled in when the context ends."""
    seen, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            for decoder in service.decoders():
                with suppress(psutil.Error):
                    seen.append(decoder.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
        seen[:] = [max(seen)]


def test_bombs_cost_bounded_time_and_memory(tiny_bundle: Path, tmp_path: Path) -> None:
    headers = {"content-type": "video/mp4", "prefer": "wait=150"}
    limits = {"decode_seconds": DECODE_SECONDS, "decode_memory_bytes": DECODER_BYTES}
    bombs = make_bombs(tmp_path)
    with serve_process(tmp_path, bundles=tiny_bundle, engine="stub", **limits) as service:
        before = service.process.memory_info().rss
        for name, content in bombs.items():
            began = time.monotonic()
            with most_memory(service) as memory:
                answer = httpx.post(
                    f"{service.url}/videos", content=content, headers=headers, timeout=200, trust_env=False
                )
            if name in PLAYABLE:
                assert answer.status_code == 200, (name, answer.text)
                assert len(answer.json()["frames"]) <= 20, name
            else:
                assert answer.status_code == 422, (name, answer.text[:500])
                assert answer.json()["code"] in CODES, (name, answer.text)
            assert memory[0] <= DECODER_BYTES, name
            assert time.monotonic() - began < 20 * DECODE_SECONDS, name
        assert service.is_ready()
        assert service.process.memory_info().rss - before < 100 * 2**20

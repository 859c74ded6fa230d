"""Uploads that arrive slowly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.support.waiting import until


@pytest.mark.parametrize("content_type", ["video/mp4", "multipart/form-data; boundary=x", "application/json"])
def test_a_body_that_drips_is_given_up_in_the_end(
    start_server: Callable[..., Server], clip: Path, content_type: str
) -> None:
    server = start_server(upload_seconds=2, upload_idle_seconds=60, url_hosts="*")

    def dripping() -> Iterator[bytes]:
        if content_type.startswith("multipart"):
            yield b'--x\r\nContent-Disposition: form-data; name="video"\r\n\r\n'
        for byte in clip.read_bytes():
            yield bytes([byte]) if "json" not in content_type else b" "
            time.sleep(0.1)

    began = time.monotonic()
    answer = server.client.post("/videos", content=dripping(), headers={"content-type": content_type})
    assert "has not ended after 2 seconds" in str(problem_of(answer, 408, "upload_stalled")["detail"])
    assert time.monotonic() - began < 20
    until(lambda: not server.uploads())


def test_a_slow_body_within_the_limit_is_received(start_server: Callable[..., Server], clip: Path) -> None:
    server = start_server(upload_seconds=60, upload_idle_seconds=2)
    content = clip.read_bytes()

    def slow() -> Iterator[bytes]:
        for at in range(0, len(content), len(content) // 8):
            yield content[at : at + len(content) // 8]
            time.sleep(0.4)

    answer = server.client.post("/videos", content=slow(), headers={"content-type": "video/mp4"})
    assert answer.status_code == 200

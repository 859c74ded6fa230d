"""What comes before a request: limits that the web server has not, and problems instead of its own words."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx

from tests.support.processes import serve_process


def test_streams_of_events_do_not_delay_the_stop(tiny_bundle: Path, long_clip: Path, tmp_path: Path) -> None:
    settings = {"bundles": tiny_bundle, "engine": "stub", "stub_seconds": 1, "shutdown_seconds": 100}
    with (
        serve_process(tmp_path, **settings) as service,
        httpx.Client(base_url=service.url, timeout=120, trust_env=False) as client,
    ):
        headers = {"prefer": "respond-async", "content-type": "video/mp4"}
        place = client.post("/videos?fps=1", content=long_clip.read_bytes(), headers=headers).headers["location"]
        with client.stream("GET", f"{place}/events") as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: progress"
            began = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert "event: end" not in list(lines), "the client would not come back"
        service.stop()
        assert time.monotonic() - began < 50

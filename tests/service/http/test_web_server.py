"""Where the web server listens, whom it believes, how many files it may open, and how it stops."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from fastapi import FastAPI

from service.errors import SettingsError
from service.http.web_server import WebServer, listen
from service.jobs import ProcessLife
from service.settings import load_settings
from tests.conftest import Server
from tests.service.test_command_line import assert_one_line, vsg
from tests.support.processes import serve_process


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_port_in_use_is_said_in_one_line_before_models_are_loaded(taken: int, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("no bundle")
    done = vsg("serve", "--port", str(taken), "--bundle", tmp_path)
    assert_one_line(done, "Error: ", f"'127.0.0.1' and {taken}", "another program listens there")


def test_a_workers_port_in_use_is_said_in_one_line(taken: int, tmp_path: Path) -> None:
    flags = ("--redis", "redis://127.0.0.1:1", "--data", tmp_path, "--metrics-port", str(taken))
    assert_one_line(vsg("worker", *flags), "Error: VSG_METRICS_HOST and --metrics-port are", "another program listens")


@pytest.mark.parametrize("host", ["198.51.100.1", "no.such.host.invalid", "1.2.3", "::1%none", "a b", "a" * 70])
def test_an_address_that_is_not_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match=f"VSG_HOST and VSG_PORT are '{host}' and 8000: "):
        listen(host, 8000, named="VSG_HOST and VSG_PORT")


async def test_a_port_that_is_taken_while_the_service_starts_is_said_too() -> None:
    (ours,) = listen("127.0.0.1", 0, named="it")
    (other,) = listen("127.0.0.1", ours.getsockname()[1], named="it")
    with ours, other:
        other.listen()
        server = WebServer(FastAPI(), load_settings(), ProcessLife())
        with pytest.raises(SettingsError, match="another program listens"):
            await server.serve([ours])


def test_as_many_files_may_be_open_as_the_user_may_have(tiny_bundle: Path, tmp_path: Path) -> None:
    with serve_process(tmp_path, bundles=tiny_bundle, engine="stub") as service:
        soft, hard = service.process.rlimit(psutil.RLIMIT_NOFILE)
        assert soft == min(hard, 65_536)


@pytest.mark.parametrize(("proxies", "distinguished"), [("", False), ("10.0.0.0/8", False), ("127.0.0.0/8", True)])
def test_only_named_proxies_say_whom_they_speak_for(
    start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, proxies: str, distinguished: bool
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # what uvicorn would believe
    server = start_server(rate_limit="1/hour", proxies=proxies)
    answers = [
        server.post(b"text", headers={name: address}).status_code
        for name, address in (("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2"))
    ]
    assert answers == ([415, 415] if distinguished else [415, 429])
    # What the client itself has put before the proxy's own entry is not believed.
    assert server.post(b"text", headers={"x-forwarded-for": "192.0.2.9, 192.0.2.1"}).status_code == 429


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

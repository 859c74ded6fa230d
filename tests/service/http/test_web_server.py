"""What comes before a request: limits that the web server has not, and problems instead of its own words."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.http.test_bad_input import problem_of
from tests.support.processes import ServiceProcess, serve_process


@pytest.fixture(scope="module")
def service(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    settings = {"bundles": tiny_bundle, "engine": "stub", "upload_idle_seconds": 2}
    with serve_process(tmp_path_factory.mktemp("service"), **settings) as running:
        yield running


def exchange(service: ServiceProcess, *pieces: bytes) -> httpx.Response | None:
    """Sends bytes until they are refused; what came back, if anything did."""
    received = b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while block := connection.recv(65536):
                received += block
        except ConnectionError:
            pass
    if not received:
        return None
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)


@pytest.mark.parametrize(
    "sent", [b"no HTTP\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_bytes_that_are_not_http_are_answered_with_a_problem(service: ServiceProcess, sent: bytes) -> None:
    answer = exchange(service, sent)
    assert answer is not None
    problem = problem_of(answer, 400, "not_http")
    assert "library" not in str(problem)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_headers_without_end_are_refused_and_not_kept(service: ServiceProcess) -> None:
    before = service.process.memory_info().rss
    megabyte = b"x" * 2**20
    for begin in (b"GET /models HTTP/1.1\r\nHost: x\r\nX-Long: ", b"GET /"):
        answer = exchange(service, begin, *[megabyte] * 100)
        if answer is not None:  # else the connection was reset before it was read
            problem_of(answer, 431, "head_too_large")
    assert service.process.memory_info().rss - before < 50 * 2**20


def test_a_request_whose_head_does_not_end_is_given_up(service: ServiceProcess) -> None:
    began = time.monotonic()
    assert exchange(service) is None
    assert exchange(service, b"GET /models HTTP/1.1\r\nHo") is None
    assert time.monotonic() - began < 60
    # The second request of a connection is no exception.
    answer = exchange(service, b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /models HTTP/1.1\r\nHo")
    assert answer is not None
    assert answer.status_code == 200


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

"""What comes before a request: problems instead of the web server's own words, and a limit for every connection."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.service.http.test_bad_input import problem_of
from tests.support.processes import ServiceProcess, serve_process
from tests.support.sockets import exchange, read_answer, seconds_until_closed
from tests.support.waiting import until

GET = b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 2
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
UPGRADES = [
    H2C,
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    b"Connection: upgrade\r\nUpgrade: TLS/1.2, HTTP/2.0, foo/1\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
]


@pytest.fixture(scope="module")
def service(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    settings = {"bundles": tiny_bundle, "engine": "stub", "upload_idle_seconds": PATIENCE}
    with serve_process(tmp_path_factory.mktemp("service"), **settings) as running:
        yield running


def connected(service: ServiceProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=60)


@pytest.mark.parametrize(
    "sent", [b"no HTTP\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_bytes_that_are_not_http_are_answered_with_a_problem(service: ServiceProcess, sent: bytes) -> None:
    answer = exchange(service.port, sent)
    assert answer is not None
    problem = problem_of(answer, 400, "not_http")
    assert "library" not in str(problem)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_headers_without_end_are_refused_and_not_kept(service: ServiceProcess) -> None:
    before = service.process.memory_info().rss
    megabyte = b"x" * 2**20
    for begin in (b"GET /models HTTP/1.1\r\nHost: x\r\nX-Long: ", b"GET /"):
        answer = exchange(service.port, begin, *[megabyte] * 100)
        if answer is not None:  # else the connection was reset before it was read
            problem_of(answer, 431, "head_too_large")
    assert service.process.memory_info().rss - before < 50 * 2**20


@pytest.mark.parametrize("size", [65_536, 70_000, 150_000, 300_000])
@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("place", ["path", "query", "header", "headers"])
def test_a_head_over_64_kib_is_refused_as_too_large(
    service: ServiceProcess, size: int, pieces: int, place: str
) -> None:
    filler = {
        "path": b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * size),
        "query": b"GET /models?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * size),
        "header": b"GET /models HTTP/1.1\r\nHost: localhost\r\nX-Long: %s\r\n\r\n" % (b"x" * size),
        "headers": b"GET /models HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (b"X-A: b\r\n" * (size // 8)),
    }[place]
    step = -(-len(filler) // pieces)
    answer = exchange(service.port, *(filler[at : at + step] for at in range(0, len(filler), step)))
    assert answer is not None
    problem_of(answer, 431, "head_too_large")


@pytest.mark.parametrize("place", [b"/%s", b"/models?a=%s", b"/models HTTP/1.1\r\nX-Long: %s\r\nX: "])
def test_a_head_under_64_kib_is_read(service: ServiceProcess, place: bytes) -> None:
    answer = exchange(service.port, b"GET " + place % (b"x" * 65_000) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer is not None
    assert answer.status_code in (200, 404, 422)


def test_trailers_and_chunk_extensions_are_bounded_too(service: ServiceProcess) -> None:
    head = b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
    for rest in (b"0\r\nX-Long: ", b"1;extension="):
        answer = exchange(service.port, head, rest, *[b"x" * 50_000] * 20, pause=0.01)
        assert answer is not None
        problem_of(answer, 431, "head_too_large")


def test_the_body_before_a_head_does_not_count_as_the_head(service: ServiceProcess, clip: Path) -> None:
    body = clip.read_bytes() + bytes(200_000)
    head = b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n"
    with connected(service) as connection:
        connection.sendall(head % len(body) + body[:-150_000])
        connection.sendall(body[-150_000:] + GET[:10])
        assert read_answer(connection).status_code in (200, 422)
        connection.sendall(GET[10:])
        assert read_answer(connection).status_code == 200


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("split", [False, True])
def test_an_offer_of_another_protocol_is_answered_in_this_one(
    service: ServiceProcess, clip: Path, upgrade: bytes, framing: str, split: bool
) -> None:
    body = clip.read_bytes()
    head = b"POST /videos?fps=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\n" + upgrade
    if framing == "length":
        head += b"Content-Length: %d\r\n\r\n" % len(body)
    else:
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with connected(service) as connection:
        for _ in range(2):  # the connection stays usable
            connection.sendall(head if split else head + body)
            if split:
                time.sleep(0.1)
                connection.sendall(body[:100])
                connection.sendall(body[100:])
            answer = read_answer(connection)
            assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_requests_after_an_offer_of_another_protocol_are_answered(service: ServiceProcess, upgrade: bytes) -> None:
    offer = GET[:-2] + upgrade + b"\r\n"
    with connected(service) as connection:
        connection.sendall(offer * 1000 + GET[:-2] + b"Connection: close\r\n\r\n")
        answers = connection.makefile("rb").read()
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 1001


def test_a_malformed_request_does_not_break_the_answer_before_it(service: ServiceProcess, clip: Path) -> None:
    body = clip.read_bytes()
    head = b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n"
    with connected(service) as connection:
        connection.sendall(head % len(body) + body + b"no HTTP\r\n\r\n")
        answer = read_answer(connection)
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        assert seconds_until_closed(connection) < PATIENCE


def test_a_broken_chunk_is_refused_and_nothing_of_it_stays(service: ServiceProcess, clip: Path) -> None:
    head = b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = exchange(service.port, head + b"%x\r\n%s\r\nnonsense\r\n" % (clip.stat().st_size, clip.read_bytes()))
    assert answer is not None
    problem_of(answer, 400, "not_http")
    until(lambda: service.uploads() == [], 10)
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"", b"G"),
        (b"", b"\r\n"),
        (GET, b"\r"),
        (GET, b"G"),
        (GET, GET[:-2]),
        (b"DELETE /videos/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", b"b"),
        (b"POST /videos?fps=0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", b"b"),
        (b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"5"),
        (b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nTrailer"),
    ],
)
def test_a_connection_that_goes_on_without_a_request_is_closed(
    service: ServiceProcess, before: bytes, after: bytes
) -> None:
    with connected(service) as connection:
        if before:
            connection.sendall(before)
            read_answer(connection)
        connection.sendall(after)
        assert seconds_until_closed(connection) < PATIENCE + 20


def test_bytes_that_drip_do_not_keep_a_connection_open(service: ServiceProcess) -> None:
    with connected(service) as connection:
        connection.sendall(GET)
        read_answer(connection)
        began = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began < 30:
                connection.sendall(b"\r\n")
                time.sleep(0.2)
        assert time.monotonic() - began < PATIENCE + 20


def test_a_client_that_takes_no_answer_is_left(service: ServiceProcess) -> None:
    with connected(service) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /docs/files/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(request * 20)  # far more than the system keeps for a socket
        ours = connection.getsockname()
        until_gone(service, ours, PATIENCE + 200)


def until_gone(service: ServiceProcess, address: tuple[str, int], seconds: float) -> None:
    """Waits until the service has closed its connection with this address."""
    end = time.monotonic() + seconds
    while address[1] in {each.raddr.port for each in service.process.net_connections() if each.raddr}:
        assert time.monotonic() < end, "the connection is still open"
        time.sleep(0.1)


def test_idle_connections_keep_nobody_out(tiny_bundle: Path, tmp_path: Path) -> None:
    with serve_process(tmp_path, bundles=tiny_bundle, engine="stub", open_files=1024) as service:
        assert service.process.rlimit(psutil.RLIMIT_NOFILE)[0] == 1024
        with ExitStack() as stack:
            for index in range(1500):
                connection = stack.enter_context(connected(service))
                if index % 3:
                    connection.sendall(GET + b"G" if index % 3 == 1 else b"G")
            for path in ("/health/live", "/health/ready", "/models"):
                assert httpx.get(service.url + path, timeout=60, trust_env=False).status_code == 200
        assert service.is_ready()


def test_requests_that_wait_leave_room_for_health_checks(tiny_bundle: Path, long_clip: Path, tmp_path: Path) -> None:
    settings = {"engine": "stub", "stub_seconds": 30, "open_files": 256}
    with serve_process(tmp_path, bundles=tiny_bundle, **settings) as service:
        headers = {"prefer": "respond-async", "content-type": "video/mp4"}
        posted = httpx.post(
            f"{service.url}/videos", content=long_clip.read_bytes(), headers=headers, trust_env=False, timeout=60
        )
        events = f"GET {posted.headers['location']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        with ExitStack() as stack:
            streams = [stack.enter_context(connected(service)) for _ in range(190)]
            for stream in streams:
                stream.sendall(events)
                assert stream.recv(15) in (b"HTTP/1.1 200 OK", b"HTTP/1.1 503 Se")
            refused = httpx.get(f"{service.url}/models", trust_env=False, timeout=60)
            problem_of(refused, 503, "unavailable")
            assert refused.headers["retry-after"]
            assert httpx.get(f"{service.url}/health/live", trust_env=False, timeout=60).status_code == 200
        httpx.delete(service.url + posted.headers["location"], trust_env=False, timeout=60)

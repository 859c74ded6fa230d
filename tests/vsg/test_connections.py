"""Both clients where connections break, and where something else than a service answers."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest

import vsg
from tests.conftest import Server
from tests.support.graphs import scene_graph
from tests.support.ports import unused_port
from tests.support.waiting import until
from tests.support.web import Answer, Web, reply, serve_web
from tests.vsg.conftest import Connect

CLOSE = "Connection: close"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
GRAPH = reply(scene_graph([], size=(64, 48)).model_dump_json().encode(), "200 OK", CLOSE)
PROBLEM = {"status": 503, "code": "unavailable", "title": "Not available", "detail": "the queue does not answer"}
BUSY = reply(json.dumps(PROBLEM).encode(), "503 Service Unavailable", "Retry-After: 0", CLOSE)
NOTHING = b""
"""The connection closes without an answer."""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has broken connections taken up at once."""
    monkeypatch.setattr("vsg.exchanges._RECONNECT_SECONDS", 0.01)


def one_after_another(answers: Sequence[bytes]) -> Answer:
    """Gives each request the next answer, and the last one to all that follow."""
    left = list(answers)

    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return answer


def url_of(web: Web) -> str:
    return f"http://127.0.0.1:{web.port}"


def header_of(request: bytes, name: str) -> str:
    found = re.search(rf"(?im)^{name}: (.*)\r$", request.decode("latin-1"))
    assert found is not None, request
    return found[1]


@pytest.mark.parametrize("failure", [NOTHING, BUSY])
def test_a_post_is_sent_again_whole_and_under_the_same_key(connect: Connect, clip: Path, failure: bytes) -> None:
    with serve_web(one_after_another([failure, failure, GRAPH])) as web:
        connect(url_of(web)).graph(clip, fps=1)
    assert len(web.requests) == 3
    assert len({header_of(request, "idempotency-key") for request in web.requests}) == 1
    assert all(request.endswith(clip.read_bytes()) for request in web.requests)
    assert web.requests[0].startswith(b"POST /videos?fps=1 ")


class Pipe(BytesIO):
    """A file that is read once, from front to back."""

    def seekable(self) -> bool:
        return False


def test_what_cannot_be_read_again_is_posted_once(connect: Connect) -> None:
    def busy(request: bytes, connection: socket.socket) -> None:
        while not request.endswith(b"\r\n0\r\n\r\n"):
            request += connection.recv(65536)
        connection.sendall(BUSY)

    with serve_web(busy) as web, pytest.raises(vsg.BusyError):
        connect(url_of(web)).graph(Pipe(b"video"))
    assert len(web.requests) == 1


def test_a_file_is_read_in_small_blocks(connect: Connect) -> None:
    class Recording(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size)
            return super().read(size)

    sizes: list[int | None] = []
    with serve_web(GRAPH) as web:
        connect(url_of(web)).graph(Recording(bytes(1_000_000)))
    assert len(sizes) == 5
    assert all(size == 1 << 18 for size in sizes)


def test_a_service_that_cannot_be_reached_is_said_so(connect: Connect, clip: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    with pytest.raises(vsg.UnreachableError, match=rf"POST {url}/videos got no answer"):
        connect(url).graph(clip)
    with pytest.raises(vsg.UnreachableError):
        connect(url).models()


def test_a_service_that_says_nothing_is_given_up(connect: Connect) -> None:
    def silent(request: bytes, connection: socket.socket) -> None:
        connection.settimeout(60)
        connection.recv(1)

    with serve_web(silent) as web, pytest.raises(vsg.UnreachableError):
        connect(url_of(web), timeout=0.1).models()
    assert len(web.requests) == 3


def test_events_that_break_off_are_taken_up_where_they_were(connect: Connect) -> None:
    running = b'event: progress\ndata: {"id": "1", "status": "running", "progress": {"frames": 4, "expected": 24}}\n'

    def answer(request: bytes, connection: socket.socket) -> None:
        if b"last-event-id: running-4" in request.lower():
            end = b'event: end\ndata: {"id": "1", "status": "succeeded"}\nid: succeeded\n\n'
            connection.sendall(EVENTS + b"\r\n: keep-alive\n\n" + end)
        else:
            connection.sendall(EVENTS + b"Content-Length: 9999\r\n\r\n" + running + b"id: running-4\n\n")

    with serve_web(answer) as web:
        events = list(connect(url_of(web)).events("1"))
    assert [event.status for event in events] == ["running", "succeeded"]
    assert events[0].progress == vsg.Progress(frames=4, expected=24)


def test_events_whose_end_was_seen_end(connect: Connect) -> None:
    with serve_web(one_after_another([EVENTS + b"\r\n", reply(b"", "204 No Content", CLOSE)])) as web:
        assert list(connect(url_of(web)).events("1")) == []
    assert len(web.requests) == 2


def test_events_that_never_come_are_given_up(connect: Connect) -> None:
    with serve_web(NOTHING) as web, pytest.raises(vsg.UnreachableError, match="/videos/1/events"):
        list(connect(url_of(web)).events("1"))
    assert len(web.requests) == 3
    with serve_web(BUSY) as web, pytest.raises(vsg.BusyError):
        list(connect(url_of(web)).events("1"))
    assert len(web.requests) == 3


def test_events_of_something_else_than_a_service_are_a_problem(connect: Connect) -> None:
    page = reply(b"<html>Hello</html>", "200 OK", "Content-Type: text/html", CLOSE)
    with serve_web(page) as web, pytest.raises(vsg.ProblemError, match="no stream of events"):
        list(connect(url_of(web)).events("1"))


def test_an_id_is_no_way_to_another_page(connect: Connect) -> None:
    with serve_web(reply(b"", "204 No Content", CLOSE)) as web:
        connect(url_of(web)).delete("../models?a=b")
    assert web.requests[0].startswith(b"DELETE /videos/..%2Fmodels%3Fa%3Db ")


def test_a_job_that_was_cancelled_is_said_so(connect: Connect) -> None:
    cancelled = reply(b'{"id": "1", "status": "cancelled"}', "200 OK", CLOSE)
    with serve_web(cancelled) as web, pytest.raises(vsg.JobCancelledError) as caught:
        connect(url_of(web)).wait("1")
    assert (caught.value.status, caught.value.job_id) == (410, "1")


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"[]", b"{}"])
def test_an_error_of_a_proxy_is_a_problem_too(connect: Connect, body: bytes) -> None:
    with serve_web(reply(body, "502 Bad Gateway", CLOSE)) as web, pytest.raises(vsg.ProblemError) as caught:
        connect(url_of(web)).models()
    assert (caught.value.status, caught.value.code) == (502, "unknown")
    assert "answered 502 Bad Gateway" in caught.value.detail


@pytest.mark.parametrize("body", [b"<html>Hello</html>", b"[]", b'{"status": "succeeded"}', b'{"models": 1}'])
def test_an_answer_that_is_not_understood_is_a_problem_too(connect: Connect, clip: Path, body: bytes) -> None:
    with serve_web(reply(body, "200 OK", CLOSE)) as web:
        client = connect(url_of(web))
        with pytest.raises(vsg.ProblemError, match="something else than a service"):
            client.models()
        with pytest.raises(vsg.ProblemError, match="something else than a service"):
            client.graph(clip)


def test_a_service_under_a_path_is_asked_there(connect: Connect) -> None:
    with serve_web(reply(b'{"models": []}', "200 OK", CLOSE)) as web:
        assert connect(f"{url_of(web)}/graphs/").models() == []
    assert web.requests[0].startswith(b"GET /graphs/models ")


@pytest.mark.usefixtures("slow_engine", "no_proxy")
async def test_a_task_that_is_cancelled_cancels_its_job(server: Server, long_clip: Path) -> None:
    before = set(server.uploads())
    async with vsg.AsyncClient(server.url) as client:
        running = asyncio.Event()
        task = asyncio.create_task(client.graph(long_clip, progress=lambda progress: running.set()))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.to_thread(until, lambda: set(server.uploads()) <= before)


@pytest.mark.usefixtures("no_proxy")
async def test_one_async_client_makes_several_graphs_at_once(server: Server, clip: Path) -> None:
    async with vsg.AsyncClient(server.url) as client:
        graphs = await asyncio.gather(*(client.graph(clip) for _ in range(4)))
    assert len({graph.id for graph in graphs}) == 4

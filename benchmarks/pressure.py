"""Presses a service in ways that are more than one request, and checks that it gives way to none of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import httpx

from tests.support.processes import ServiceProcess
from tests.support.waiting import until

PATIENCE = 120.0
MOST_READY_SECONDS = 10.0
_LARGE_FILE = "/docs/files/swagger-ui-bundle.js"


@dataclass(frozen=True)
class Opening:
    """The bytes that a client sends before it falls silent, and whether it reads an answer to them first."""

    content: bytes
    reads: bool = False


_ASKED = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
_UPLOAD = b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nContent-Length: 900000\r\n\r\n"
OPENINGS: Sequence[Opening] = (
    Opening(b""),
    Opening(_ASKED, reads=True),
    Opening(_ASKED + b"G", reads=True),
    Opening(_ASKED + b"\r\n", reads=True),
    Opening(b"GET /health/live HTTP/1.1\r\nHost: local"),
    Opening(_UPLOAD),
    Opening(_UPLOAD.replace(b"Content-Length: 900000", b"Transfer-Encoding: chunked") + b"5\r\nab"),
    Opening(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
)


def hang(service: ServiceProcess, count: int) -> float:
    """Opens connections that fall silent in every state. Returns the seconds until the service has closed the last.

    Raises AssertionError where others are not answered meanwhile.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        connections = []
        for number in range(count):
            opening = OPENINGS[number % len(OPENINGS)]
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE))
            connection.sendall(opening.content)
            if opening.reads:
                connection.recv(65536)
            connections.append(connection)
        _check_others(service)
        for connection in connections:
            _read_to_its_end(connection)
    return time.monotonic() - began


def read_slowly(service: ServiceProcess, count: int) -> float:
    """Asks for large answers and takes no byte of them. Returns the seconds until the service has given up the last.

    Raises AssertionError where others are not answered meanwhile.
    """
    began = time.monotonic()
    asked = f"GET {_LARGE_FILE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", service.port))
            connection.sendall(asked * 20)
        _check_others(service)
        # They are never read, so only the service's own list of connections tells.
        until(lambda: not _open_connections(service), PATIENCE)
    return time.monotonic() - began


def post_again(service: ServiceProcess, clip: bytes, count: int) -> dict[str, float]:
    """Posts a video whose graph is kept again and again. Returns how much storage and memory that takes.

    Raises AssertionError where an answer is not a graph with an id of its own, or where something stays after all are
    deleted.
    """
    with httpx.Client(base_url=service.url, timeout=PATIENCE, trust_env=False) as client:

        def post() -> str:
            answer = client.post("/videos", files={"video": clip})
            assert answer.status_code == 200, answer.text
            place: str = answer.headers["location"]
            assert place.endswith(answer.json()["id"])
            return place

        places = [post()]
        stored, memory = _stored_bytes(service), service.process.memory_info().rss
        places += [post() for _ in range(count)]
        grown = {
            "stored bytes": float(_stored_bytes(service) - stored),
            "memory": round(service.process.memory_info().rss / memory, 3),
        }
        assert len(set(places)) == count + 1, "two posts share an id"
        for place in places[:-1]:
            assert client.delete(place).status_code == 204
        assert client.get(places[-1]).status_code == 200, "the last one has lost its graph"
        assert client.delete(places[-1]).status_code == 204
        assert _stored_bytes(service) == 0, "a graph is left"
    return grown


def fill_queue(service: ServiceProcess, clips: Sequence[bytes], greedy: str, others: Sequence[str]) -> dict[str, int]:
    """Has one key post until it is refused, and then each of the others once. Returns how many each got in.

    Raises AssertionError where another key does not get in.
    """
    with ExitStack() as stack:

        def client_of(key: str) -> httpx.Client:
            headers = {"authorization": f"Bearer {key}", "prefer": "respond-async", "cache-control": "no-cache"}
            return stack.enter_context(
                httpx.Client(base_url=service.url, headers=headers, timeout=PATIENCE, trust_env=False)
            )

        clients = [client_of(key) for key in (greedy, *others)]
        places: list[tuple[httpx.Client, str]] = []

        def post(client: httpx.Client) -> bool:
            answer = client.post("/videos", files={"video": clips[len(places) % len(clips)]})
            if answer.status_code == 429:
                assert answer.json()["code"] == "queue_full"
                assert int(answer.headers["retry-after"]) > 0
                return False
            assert answer.status_code == 202, answer.text
            places.append((client, answer.headers["location"]))
            return True

        taken = 0
        while post(clients[0]):
            taken += 1
        refused = sum(not post(clients[0]) for _ in range(50))
        let_in = sum(post(client) for client in clients[1:])
        for client, place in places:
            client.delete(place)
        assert let_in == len(others), f"one key took {taken} places, and {len(others) - let_in} others found none"
    return {"places of one key": taken, "refused of it": refused, "others that got in": let_in}


def _check_others(service: ServiceProcess) -> None:
    began = time.monotonic()
    assert service.is_ready(), "others are not answered"
    assert time.monotonic() - began < MOST_READY_SECONDS, "others wait"


def _read_to_its_end(connection: socket.socket) -> None:
    with suppress(ConnectionError):
        while connection.recv(65536):
            pass


def _open_connections(service: ServiceProcess) -> list[object]:
    return [each for each in service.process.net_connections("tcp") if each.status == "ESTABLISHED"]


def _stored_bytes(service: ServiceProcess) -> int:
    return sum(path.stat().st_size for path in (service.data / "results").rglob("*") if path.is_file())

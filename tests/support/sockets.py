"""Bytes sent to a service over a socket, as no HTTP client would send them."""

from __future__ import annotations

import socket
import time

import httpx


def exchange(port: int, *pieces: bytes, pause: float = 0.0) -> httpx.Response | None:
    """Sends bytes until they are refused; the first answer that came back, if anything did.

    pause: seconds between the pieces.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while block := connection.recv(65536):
                received += block
        except ConnectionError:
            pass
    return parse_answer(received) if received else None


def parse_answer(received: bytes) -> httpx.Response:
    """An answer from the bytes of a connection that ends with it."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return httpx.Response(int(first.split()[1]), headers=headers, content=body)


def read_answer(connection: socket.socket) -> httpx.Response:
    """The next answer on a connection that stays open; it must have a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(parse_answer(head).headers["content-length"])
    while len(body) < length:
        body += _some(connection)
    return parse_answer(head + b"\r\n\r\n" + body)


def seconds_until_closed(connection: socket.socket) -> float:
    """How long the other end keeps a connection open."""
    began = time.monotonic()
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - began


def _some(connection: socket.socket) -> bytes:
    block = connection.recv(65536)
    assert block, "the connection has ended before the answer"
    return block

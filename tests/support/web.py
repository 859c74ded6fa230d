"""Real servers on 127.0.0.1 that answer as a test says."""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[[bytes, socket.socket], None]
"""Called with the bytes of a request and the connection to answer on, which closes after the call."""


@dataclass
class Web:
    """A running server and the requests that it got."""

    port: int
    requests: list[bytes] = field(default_factory=list)


def reply(body: bytes = b"", status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """An HTTP answer. `length` replaces the true Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def serve_web(answer: Answer | bytes, *, tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Runs a server on 127.0.0.1 that gives this answer to every request."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # The client may go at any moment; some tests are about that.
            with suppress(OSError):
                connection = tls.wrap_socket(self.request, server_side=True) if tls else self.request
                request = _read_request(connection)
                web.requests.append(request)
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                else:
                    answer(request, connection)
                connection.close()

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        web = Web(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="web")
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()


def _read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request and (block := connection.recv(65536)):
        request += block
    head, _, body = request.partition(b"\r\n\r\n")
    declared = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
    while declared and len(body) < int(declared[1]) and (block := connection.recv(65536)):
        body += block
    return head + b"\r\n\r\n" + body

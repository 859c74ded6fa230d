"""One connection of the web server: HTTP/1.1 by uvicorn, with a limit for every state that a connection can be in."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import PROBLEM_TYPE, ServiceError, Unavailable
from service.http.errors import HeadTooLarge, NotHttp
from service.http.middleware import PROBES, RETRY_SECONDS, SECURITY_HEADERS

HEAD_BYTES = 64 * 1024
_PROBES = tuple(path.encode() for path in PROBES)
_FRAMING = (b"content-length", b"transfer-encoding")
# A refused client may still be sending. To close at once would reset the connection before it has read why.
_LINGER_SECONDS = 2.0


class Crowd:
    """The open connections of one server.

    At the limit, the connection that has waited longest for a request makes room for a new one, so that idle
    connections keep nobody out.
    """

    def __init__(self, most: int) -> None:
        """`most`: connections that may be open at once."""
        self._most = most
        # Room that requests leave for further connections, such as those of health checks.
        self._most_busy = most - max(1, most // 16)
        self._open: set[GuardedProtocol] = set()
        self._waiting: dict[GuardedProtocol, None] = {}  # longest first

    @property
    def is_busy(self) -> bool:
        """Whether no further request should be answered."""
        return len(self._open) - len(self._waiting) >= self._most_busy

    def enter(self, connection: GuardedProtocol) -> None:
        """Takes a new connection, which waits for its first request, and closes another where there are too many."""
        self._open.add(connection)
        self._waiting[connection] = None
        if len(self._open) > self._most:
            longest = next(iter(self._waiting))
            self.leave(longest)
            longest.transport.abort()

    def wait(self, connection: GuardedProtocol) -> None:
        """Notes that a connection waits for its next request."""
        if connection in self._open:
            self._waiting[connection] = None

    def work(self, connection: GuardedProtocol) -> None:
        """Notes that a request of a connection is being answered."""
        self._waiting.pop(connection, None)

    def leave(self, connection: GuardedProtocol) -> None:
        """Forgets a connection that is closed."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. It answers what is not HTTP, or has too large a head, with a problem, and closes.

    It is in one of these states, each with a limit:

    - It waits for a request: `patience` seconds from the last answer, or from the beginning, to the end of the head,
      whatever else arrives. Where nothing arrives, uvicorn closes it earlier.
    - A request is answered: the routes limit how long they read a body and work.
    - An answer is being sent: `patience` seconds in which the client takes nothing of it.
    - It was refused: `_LINGER_SECONDS`.

    crowd: the connections of the same server.
    patience: seconds.
    """

    def __init__(self, *arguments: Any, crowd: Crowd, patience: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._crowd = crowd
        self._patience = patience
        self._end: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._answered: RequestResponseCycle | None = None
        self._head_bytes = 0  # of the lines that the parser has read to their end
        self._line_bytes = 0  # of the line that it is reading
        self._is_parsing_head = True
        self._is_replaying = False
        self._problem: ServiceError | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end_after(self._patience)
        self._crowd.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.leave(self)
        for timer in (self._end, self._stall):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()
        # uvicorn tells only the last of several requests.
        for cycle in (self._answered, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        self._line_bytes += len(data)
        try:
            self._parse(data)
            self._limit_head()
        except httptools.HttpParserError:
            self._refuse(self._problem or NotHttp("this is not a request of HTTP/1.1: use an HTTP client"))
        except HeadTooLarge as error:
            self._refuse(error)

    def _parse(self, data: bytes) -> None:
        """Feeds the parser. Raises httptools.HttpParserError."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                self._stay_with_http()
                data = data[upgrade.args[0] :]

    def _stay_with_http(self) -> None:
        """Goes on in HTTP/1.1 where a client offers another protocol, as RFC 9110 §7.8 has it.

        The parser takes what follows such a head for the other protocol. A new one is told again how long the body is.
        """
        framing = [name + b": " + value + b"\r\n" for name, value in self.headers if name in _FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._is_replaying = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")

    def on_message_begin(self) -> None:
        if not self._is_replaying:
            self._is_parsing_head = True
            self._head_bytes = self._line_bytes = 0
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_replaying:
            self._count(len(url))
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_replaying:
            return
        self._count(len(name) + len(value) + len(b": \r\n"))
        if self._is_parsing_head:  # else it is a trailer, which no route reads
            super().on_header(name, value)

    def on_chunk_header(self) -> None:
        self._line_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._line_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        if self._is_replaying:
            self._is_replaying = False
            return
        self._is_parsing_head = False
        self._head_bytes = self._line_bytes = 0
        if self._crowd.is_busy and not self.url.partition(b"?")[0].endswith(_PROBES):
            self._problem = Unavailable("the service has too many connections: try again in a moment")
            raise self._problem
        self._crowd.work(self)
        self._end_after(None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._line_bytes = 0
        # The parser takes a request that offers another protocol for complete when its head is.
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last:
            # Also where the connection is closing: a client that takes no bytes would keep it open.
            self._end_after(self._patience)
            self._crowd.wait(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _count(self, size: int) -> None:
        """Counts a part of the head, or of the trailers, that the parser has read. Raises HeadTooLarge."""
        self._line_bytes = 0
        self._head_bytes += size
        self._limit_head()

    def _limit_head(self) -> None:
        if self._head_bytes + self._line_bytes > HEAD_BYTES:
            self._problem = HeadTooLarge(f"the URL and headers have more than {HEAD_BYTES} bytes: send less")
            raise self._problem

    def _watch_sending(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(self._patience, self._check_sending)

    def _check_sending(self) -> None:
        if self.transport.get_write_buffer_size() >= self._unsent:
            self.transport.abort()
        else:
            self._watch_sending()

    def _end_after(self, seconds: float | None) -> None:
        """Breaks the connection off after so many seconds from now; None: never."""
        if self._end is not None:
            self._end.cancel()
        self._end = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    def _refuse(self, error: ServiceError) -> None:
        """Answers with a problem, and closes when the client has read it. Requests before it are still answered."""
        self._is_refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False  # what was refused came after this request, whose answer is the last
                return
            if cycle.response_started or self.pipeline:
                self.transport.abort()  # the problem would be taken for another answer, or for a part of it
                return
            cycle.disconnected = True
            cycle.message_event.set()
        content = json.dumps(error.problem()).encode()
        headers = {
            **SECURITY_HEADERS,
            "Content-Type": PROBLEM_TYPE,
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
        if error.status in RETRY_SECONDS:
            headers["Retry-After"] = RETRY_SECONDS[error.status]
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + content)
        self.transport.write_eof()
        self._end_after(_LINGER_SECONDS)

"""The web server, uvicorn, with the limits and the words that it lacks."""

from __future__ import annotations

import asyncio
import json
import socket
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import PROBLEM_TYPE, RequestError
from service.http.errors import HeadTooLarge, NotHttp
from service.http.middleware import SECURITY_HEADERS
from service.jobs import ProcessLife
from service.settings import Settings

HEAD_BYTES = 64 * 1024


class WebServer(uvicorn.Server):
    """Serves the API until the process stops or has lost its engine.

    It tells the process first that it stops: it waits for its requests, and streams of events end only then.
    """

    def __init__(self, app: FastAPI, settings: Settings, life: ProcessLife) -> None:
        config = uvicorn.Config(
            app,
            http=partial(GuardedProtocol, head_seconds=settings.upload_idle_seconds),  # type: ignore[arg-type]
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=settings.shutdown_seconds,
            server_header=False,
            ws="none",  # there are none, and the answer to a WebSocket would name the library
            log_config=None,  # ours configures its loggers too
            access_log=False,  # ours knows routes and ids
        )
        super().__init__(config)
        self._life = life

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._life.engine_lost.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._life.stop()
        await super().shutdown(sockets)


class GuardedProtocol(HttpToolsProtocol):
    """One connection. It answers what is not HTTP, or too large a head, with a problem, and closes.

    head_seconds: after which a connection is closed whose request has not come to the end of its head.
    """

    def __init__(self, *arguments: Any, head_seconds: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._head_seconds = head_seconds
        self._head_bytes = 0
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._patience is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self._refuse(HeadTooLarge(f"the URL and headers have more than {HEAD_BYTES} bytes: send less"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(NotHttp("this is not a request of HTTP/1.1: use an HTTP client"))

    def _await_head(self) -> None:
        if self._patience is None:
            self._head_bytes = 0
            self._patience = self.loop.call_later(self._head_seconds, self.transport.close)

    def _end_head(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, error: RequestError) -> None:
        content = json.dumps(error.problem()).encode()
        headers = {
            **SECURITY_HEADERS,
            "Content-Type": PROBLEM_TYPE,
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + content)
        self.transport.close()

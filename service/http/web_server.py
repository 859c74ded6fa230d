"""The web server, uvicorn, with the limits and the words that it lacks."""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from service.errors import SettingsError
from service.http.connection import Crowd, GuardedProtocol
from service.jobs import ProcessLife
from service.settings import Settings

_MOST_FILES = 65_536
_MOST_CONNECTIONS = 10_000
_BIND_ERRORS = {
    errno.EADDRINUSE: "another program listens there: choose another port, or end that program",
    errno.EADDRNOTAVAIL: "this machine does not have that address: choose one of its own, such as 127.0.0.1",
    errno.EACCES: "this user may not listen there: choose a port from 1024 up",
}


def listen(host: str, port: int, *, named: str) -> list[socket.socket]:
    """Binds an address before the service does its other work. Connections come in later, when it is served.

    port: 0 takes a free one.
    named: how an error names the address, such as `VSG_HOST and VSG_PORT`.

    Raises SettingsError where the address cannot be had.
    """
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            bound.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
    except (OSError, UnicodeError) as error:
        for listener in bound:
            listener.close()
        code = error.errno if isinstance(error, OSError) else None
        reason = _BIND_ERRORS.get(code or 0, "there is no such address: give an address of this machine")
        raise SettingsError(f"{named} are {host!r} and {port}: {reason}") from error
    return bound


def raise_file_limit() -> None:
    """Lets this process open as many files and connections as its user may, since the usual 1,024 are few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def server_config(app: FastAPI, settings: Settings, host: str, port: int) -> uvicorn.Config:
    """How uvicorn serves an app: every connection is guarded, and uvicorn itself says nothing to callers."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    crowd = Crowd(min(_MOST_CONNECTIONS, files * 3 // 4))  # the rest is for videos, decoders and the queue
    return uvicorn.Config(
        app,
        http=partial(GuardedProtocol, crowd=crowd, patience=settings.upload_idle_seconds),  # type: ignore[arg-type]
        host=host,
        port=port,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=[str(network) for network in settings.proxies],
        ws="none",  # there are none, and the answer to a WebSocket would name the library
        log_config=None,  # ours configures its loggers too
        access_log=False,  # ours knows routes and ids
    )


class _Server(uvicorn.Server):
    """Serves an app on sockets that `listen` has bound."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:
            await self.lifespan.shutdown()
            raise SettingsError(
                f"another program listens at {self.config.host!r} and {self.config.port} since this one began to "
                "start: end that program, or choose another port"
            ) from error
        if sockets and self.started:
            self._log_started_message(sockets)


class WebServer(_Server):
    """Serves the API until the process stops or has lost its engine.

    It tells the process first that it stops: it waits for its requests, and streams of events end only then.
    """

    def __init__(self, app: FastAPI, settings: Settings, life: ProcessLife) -> None:
        super().__init__(server_config(app, settings, settings.host, settings.port))
        self._life = life

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._life.engine_lost.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._life.stop()
        await super().shutdown(sockets)


class SideServer(_Server):
    """Serves the app of a worker beside its work. It leaves the signals to the worker."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(server_config(app, settings, settings.metrics_host, settings.metrics_port))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

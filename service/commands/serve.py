"""`vsg serve`."""

from __future__ import annotations

import socket
import sys
from functools import partial
from pathlib import Path

import click
import uvicorn

from models.engines import ENGINES
from service.commands.common import SWITCH_SECONDS
from service.http import create_app
from service.http.protocol import GuardedProtocol
from service.jobs import ProcessLife
from service.logs import configure_logging
from service.settings import load_settings
from service.tracing import configure_tracing


@click.command()
@click.option("--bundle", "bundles", type=click.Path(path_type=Path), multiple=True, help="Bundle; may be repeated.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--redis", "queue_url", help="URL of the Redis where `vsg worker` takes jobs; default: work here.")
@click.option("--keys", type=click.Path(path_type=Path), help="File of keys; `vsg key NAME` makes one.")
@click.option("--data", help="Folder or fsspec URL of uploads and results; default: a private, temporary one.")
@click.option("--concurrency", type=int, help="Videos worked on at once.")
@click.option("--engine", help=f"What runs the models: {', '.join(ENGINES)}.")
@click.option("--threads", type=int, help="Threads of one stream of a CPU engine; 0 shares the cores out.")
def serve(
    bundles: tuple[Path, ...],
    host: str | None,
    port: int | None,
    queue_url: str | None,
    keys: Path | None,
    data: str | None,
    concurrency: int | None,
    engine: str | None,
    threads: int | None,
) -> None:
    """Serve the API, with a worker in the same process unless --redis names a queue that other processes work on.

    Without --bundle, every bundle in ./bundles is served; the first is the default model. All settings can also be
    given as VSG_* environment variables; docs/settings.md lists them.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = load_settings(
        {
            "bundles": bundles or None,
            "host": host,
            "port": port,
            "queue_url": queue_url,
            "keys": keys,
            "data": data,
            "concurrency": concurrency,
            "engine": engine,
            "threads": threads,
        }
    )
    configure_logging(settings)
    configure_tracing("vsg-api")
    life = ProcessLife()
    server = _Server(
        life,
        uvicorn.Config(
            create_app(settings, life),
            http=partial(GuardedProtocol, head_seconds=settings.upload_idle_seconds),  # type: ignore[arg-type]
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=settings.shutdown_seconds,
            server_header=False,
            ws="none",  # there are none, and the answer to who asks for one would name the library
            log_config=None,  # ours holds for its loggers as well
            access_log=False,  # ours knows routes and ids
        ),
    )
    server.run()
    if life.engine_lost.is_set() or not server.started:
        sys.exit(1)


class _Server(uvicorn.Server):
    """Ends when the process has lost its engine, and tells the process first that it stops.

    A web server that stops waits for its requests, and those that stream events end only when the process stops.
    """

    def __init__(self, life: ProcessLife, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._life = life

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._life.engine_lost.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._life.stop()
        await super().shutdown(sockets)

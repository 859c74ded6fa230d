"""`vsg serve`."""

from __future__ import annotations

import asyncio
import sys

import click

from service.commands.common import SWITCH_SECONDS, read_settings, settings_flags
from service.commands.starting import check_start
from service.http import create_app
from service.http.web_server import WebServer, listen, raise_file_limit
from service.jobs import ProcessLife
from service.logs import configure_logging
from service.tracing import configure_tracing


@click.command()
@settings_flags("bundles", "host", "port", "queue_url", "keys", "data", "concurrency", "engine", "device", "threads")
def serve(**flags: str | None) -> None:
    """Serve the API, with a worker in the same process unless --redis names a queue for other processes.

    Every setting can also be given as an environment variable; docs/settings.md lists them. A flag wins.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = read_settings(flags)
    configure_logging(settings)
    configure_tracing("vsg-api")
    raise_file_limit()
    sockets = listen(settings.host, settings.port, named="--host and --port")
    asyncio.run(check_start(settings, waits=False))
    life = ProcessLife()
    server = WebServer(create_app(settings, life), settings, life)
    server.run(sockets)
    if life.engine_lost.is_set() or not server.started:
        sys.exit(1)

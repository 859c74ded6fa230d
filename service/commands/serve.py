"""`vsg serve`."""

from __future__ import annotations

import sys

import click

from service.commands.common import SWITCH_SECONDS, read_settings, settings_flags
from service.http import create_app
from service.http.web_server import WebServer
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
    life = ProcessLife()
    server = WebServer(create_app(settings, life), settings, life)
    server.run()
    if life.engine_lost.is_set() or not server.started:
        sys.exit(1)

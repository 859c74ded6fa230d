"""`vsg mcp`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from service.agents.server import create_agents_app
from service.agents.tools import make_server
from service.archive.folder import ArchiveFolder
from service.commands.common import read_settings, settings_flags
from service.http.web_server import WebServer, listen, raise_file_limit
from service.jobs import ProcessLife
from service.logs import configure_logging
from service.search.archive_search import ArchiveSearch


@click.command()
@click.argument("archive", required=False)
@click.option("--http", "over_http", is_flag=True, help="Serve streamable HTTP at /mcp, instead of stdio.")
@settings_flags("host", "port", "keys")
def mcp(archive: str | None, over_http: bool, **flags: str | None) -> None:
    """Let agents ask an archive, by the Model Context Protocol.

    ARCHIVE is a folder or URL that `vsg batch` or a service has written; by default that of VSG_ARCHIVE. Over stdio, an
    agent sees all videos of it. Over HTTP it sees those of the name that its key belongs to.
    """
    settings = read_settings({**flags, "archive": archive})
    if settings.archive is None:
        raise click.UsageError("name an ARCHIVE, or set VSG_ARCHIVE")
    folder = ArchiveFolder(settings.archive)
    folder.check()
    configure_logging(settings)
    if not over_http:
        asyncio.run(_answer(folder))
        return
    raise_file_limit()
    sockets = listen(settings.host, settings.port, named="--host and --port")
    life = ProcessLife()
    server = WebServer(create_agents_app(settings, folder), settings, life)
    server.run(sockets)
    if not server.started:
        sys.exit(1)


async def _answer(folder: ArchiveFolder) -> None:
    async def everybody(context: Any) -> None:
        return None

    await make_server(ArchiveSearch(folder), everybody).run_stdio_async()

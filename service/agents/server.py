"""The tools over streamable HTTP, behind the same keys and limits as the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings

from service.agents.tools import make_server
from service.archive.folder import ArchiveFolder
from service.http import operations
from service.http.access import RateLimit, RequireKey
from service.http.conventions import CheckHead
from service.http.middleware import ErrorHandlers, SecurityHeaders, WatchRequests
from service.http.operations import Health
from service.http.origins import GuardFromPages
from service.keys import keys_of
from service.metrics import Metrics
from service.search.archive_search import ArchiveSearch
from service.settings import Settings

_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def create_agents_app(settings: Settings, folder: ArchiveFolder) -> FastAPI:
    """The app: the tools at /mcp, and /health and /metrics.

    Raises SettingsError where other machines could reach it without a key.
    """
    keys = keys_of(settings)
    rate_limit = RateLimit(settings.rate_limit, settings.queue_url) if settings.rate_limit else None
    metrics = Metrics()
    metrics.process.labels("agents").set(1)
    search = ArchiveSearch(folder)

    async def owner_of(context: Context[Any, Any]) -> str:
        request = context.request_context.request
        assert request is not None, "every call over HTTP has a request"
        owner: str = request.state.owner
        if rate_limit is not None:
            await rate_limit.take(owner)
        return owner

    server = make_server(search, owner_of)
    # Without sessions: each request carries its key, and none can take over what another has begun.
    tools = server.streamable_http_app(
        stateless_http=True,
        json_response=True,
        max_request_body_size=1 << 20,
        # The middleware below checks hosts and origins, as for the API.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    async def check() -> None:
        await search.run(folder.check)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with server.session_manager.run():
            yield
        if rate_limit is not None:
            await rate_limit.close()

    app = FastAPI(title="Tools for agents", version="1", openapi_url=None, lifespan=lifespan, telemetry=_NO_TELEMETRY)
    app.state.health = Health(lambda: True, check, [], metrics)
    app.include_router(operations.health_router)
    app.mount("/", tools)
    errors = ErrorHandlers(metrics)
    errors.install(app)
    app.add_middleware(RequireKey, keys=keys, errors=errors)
    if keys is None:
        app.add_middleware(
            GuardFromPages,
            host=settings.host,
            allowed=settings.allowed_hosts,
            origins=settings.cors_origins,
            errors=errors,
        )
    app.add_middleware(CheckHead, errors=errors)
    app.add_middleware(WatchRequests, metrics=metrics)
    app.add_middleware(SecurityHeaders)
    return app

"""Around every answer: the headers that it carries, and how it is counted, logged and traced."""

from __future__ import annotations

import time
from contextlib import nullcontext

import structlog
from opentelemetry.trace import INVALID_SPAN
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.jobs import VIDEO_ID
from service.metrics import Metrics
from service.tracing import request_span

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# For answers that are data, not a page, and meant for their caller alone. A route may set others.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})

log = structlog.get_logger(__name__)


class SecurityHeaders:
    """Middleware that adds `SECURITY_HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


class WatchRequests:
    """Middleware that counts, logs and traces every request.

    It repeats nothing that callers wrote into paths, headers and bodies.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500  # where the application raises, the framework answers outside of this middleware
        method = scope["method"] if scope["method"] in METHODS else "other"

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        spanned = nullcontext(INVALID_SPAN) if scope["path"] in _PROBES else request_span(method, Headers(scope=scope))
        with spanned as span, structlog.contextvars.bound_contextvars():
            try:
                await self._app(scope, receive, watched)
            finally:
                # The route's pattern, not the path: ids and guessed paths would make a series each.
                route = getattr(scope.get("route"), "path", "none")
                seconds = time.perf_counter() - began
                self._metrics.requests.labels(method, route, str(status)).inc()
                self._metrics.request_seconds.labels(method, route).observe(seconds)
                span.update_name(f"{method} {route}")
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                tell = log.debug if route in _PROBES else log.info
                tell("request", method=method, route=route, status=status, seconds=round(seconds, 4), **_id(scope))


def _id(scope: Scope) -> dict[str, str]:
    """The id in a path. That of a new video is in the log's context already."""
    video_id = scope.get("path_params", {}).get("video_id", "")
    return {"id": video_id} if VIDEO_ID.fullmatch(video_id) else {}

"""Counts, logs and traces every request."""

from __future__ import annotations

import time
from contextlib import nullcontext

import structlog
from opentelemetry.trace import INVALID_SPAN
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import METHODS
from service.jobs import VIDEO_ID
from service.metrics import Metrics
from service.tracing import request_span

_PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})

log = structlog.get_logger(__name__)


class WatchRequests:
    """Stands before all that answers; what callers wrote into paths, headers and bodies is not repeated."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500  # where the application raises, the layer outside of this one answers
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
                # The route's pattern, not the path: ids would make a series per video, and so would guessed paths.
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
    """The video that a path names; that of a post is in the log's context."""
    video_id = scope.get("path_params", {}).get("video_id", "")
    return {"id": video_id} if VIDEO_ID.fullmatch(video_id) else {}

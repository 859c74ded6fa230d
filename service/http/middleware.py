"""Around every answer: its headers, its problem document where it is an error, and its count, log line and trace."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from opentelemetry.trace import INVALID_SPAN
from redis.exceptions import RedisError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.graph.validation import mistake_of, shortened
from service.errors import PROBLEM_TYPE, InvalidOption, RequestError, ServiceError, Unavailable
from service.http.errors import MethodNotAllowed, RateLimited
from service.jobs import VIDEO_ID
from service.jobs.errors import NotFound
from service.metrics import Metrics
from service.prompt.errors import CaptionBusy
from service.tracing import request_span

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# For answers that are data, not a page, and meant for their caller alone. A route may set others.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
RETRY_SECONDS = {429: "5", 503: "10", 507: "60"}
PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})

log = structlog.get_logger(__name__)


def path_of(scope: Scope) -> str:
    """The path by which a route is found, without the prefix of a proxy.

    It does not depend on the header `Host`, as the path of the request's URL does.
    """
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


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

        spanned = nullcontext(INVALID_SPAN) if path_of(scope) in PROBES else request_span(method, Headers(scope=scope))
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
                tell = log.debug if route in PROBES else log.info
                tell("request", method=method, route=route, status=status, seconds=round(seconds, 4), **_id(scope))


def _id(scope: Scope) -> dict[str, str]:
    """The id in a path. That of a new video is in the log's context already."""
    video_id = scope.get("path_params", {}).get("video_id", "")
    return {"id": video_id} if VIDEO_ID.fullmatch(video_id) else {}


class ErrorHandlers:
    """Answers the errors of one application with problem documents, and counts them by code."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def install(self, app: FastAPI) -> None:
        """Has the application answer every error with a problem document."""
        app.add_exception_handler(ServiceError, self._service_error)
        app.add_exception_handler(RedisError, self._redis_error)
        app.add_exception_handler(HTTPException, self._http_exception)
        app.add_exception_handler(RequestValidationError, self._validation_error)
        app.add_exception_handler(Exception, self._unexpected)

    def answer(self, request: Request, error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
        """The answer to a request that ended in an error."""
        self._metrics.errors.labels(error.code).inc()
        sent = dict(headers or {})
        if error.status == 401:
            sent["WWW-Authenticate"] = "Bearer"
        if isinstance(error, RateLimited | CaptionBusy):
            sent["Retry-After"] = str(error.retry_after)
        elif error.status in RETRY_SECONDS:
            sent["Retry-After"] = RETRY_SECONDS[error.status]
        if error.status == 408:
            sent["Connection"] = "close"  # what still comes of the body would hide the answer from the client
        content = json.dumps(error.problem(instance=request.scope["path"]))
        return Response(content, error.status, sent, media_type=PROBLEM_TYPE)

    async def _service_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return self.answer(request, error)

    async def _redis_error(self, request: Request, error: Exception) -> Response:
        return self.answer(request, Unavailable("the job queue does not answer: try again in a moment"))

    async def _http_exception(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        place = request.scope["path"][:200]
        if error.status_code == 404:
            return self.answer(request, NotFound(f"there is nothing at {place}: /docs lists the pages"))
        if error.status_code == 405:
            allowed = _allowed_methods(request)
            problem = MethodNotAllowed(f"{place} does not take {request.method}: use {allowed}")
            return self.answer(request, problem, {"Allow": allowed})
        return self.answer(request, RequestError(str(error.detail)), error.headers)

    async def _validation_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        mistake = mistake_of(error.errors()[0])
        name = str(mistake.path[-1])
        problem = InvalidOption(name, f"{name} is {shortened(mistake.value)}: {mistake.reason}")
        return self.answer(request, problem)

    async def _unexpected(self, request: Request, error: Exception) -> Response:
        # The server logs the exception with its trace; the caller learns nothing of it.
        problem = ServiceError("the service failed on this request: its operator finds the reason in the log")
        # This is answered outside of the middleware that adds these headers to all other answers.
        return self.answer(request, problem, SECURITY_HEADERS)


def _allowed_methods(request: Request) -> str:
    """The methods of a path; the framework names only those of its first route."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    routes = request.app.routes
    allowed = {
        method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)
    }
    if "GET" in allowed:
        allowed.add("HEAD")  # answered as GET, before routes are looked for
    return ", ".join(method for method in METHODS if method in allowed)

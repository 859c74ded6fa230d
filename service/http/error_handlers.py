"""Handlers that answer every error, the framework's too, with a problem document."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from models.graph.validation import mistake_of, shortened
from service.errors import InvalidOption, RequestError, ServiceError, Unavailable
from service.http.errors import MethodNotAllowed, RateLimited
from service.http.middleware import METHODS, SECURITY_HEADERS
from service.jobs.errors import NotFound
from service.metrics import Metrics
from service.problem import MEDIA_TYPE, problem_bytes
from service.prompt.errors import CaptionBusy

_RETRY_SECONDS = {429: "5", 503: "10"}


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
        elif error.status in _RETRY_SECONDS:
            sent["Retry-After"] = _RETRY_SECONDS[error.status]
        content = problem_bytes(error, instance=request.url.path)
        return Response(content, error.status, sent, media_type=MEDIA_TYPE)

    async def _service_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return self.answer(request, error)

    async def _redis_error(self, request: Request, error: Exception) -> Response:
        return self.answer(request, Unavailable("the job queue does not answer: try again in a moment"))

    async def _http_exception(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        place = request.url.path[:200]
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
    return ", ".join(
        method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)
    )

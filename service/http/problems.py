"""Every error leaves as a problem document, also those of the framework."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.errors import InvalidOption, RequestError, ServiceError, Unavailable
from service.http.errors import MethodNotAllowed, RateLimited
from service.http.headers import SECURITY_HEADERS
from service.http.state import service_of
from service.jobs.errors import NotFound
from service.problem import MEDIA_TYPE, problem_bytes
from service.prompt.errors import CaptionBusy

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_RETRY_SECONDS = {429: "5", 503: "10"}


def install_problem_handlers(app: FastAPI) -> None:
    """Makes the application answer every error with a problem document."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RedisError, _redis_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unexpected)


def problem_response(request: Request, error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that ended in an error; counts it."""
    service_of(request).metrics.errors.labels(error.code).inc()
    sent = dict(headers or {})
    if error.status == 401:
        sent["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RateLimited | CaptionBusy):
        sent["Retry-After"] = str(error.retry_after)
    elif error.status in _RETRY_SECONDS:
        sent["Retry-After"] = _RETRY_SECONDS[error.status]
    content = problem_bytes(error, instance=request.url.path)
    return Response(content, error.status, sent, media_type=MEDIA_TYPE)


async def plain_problem(request: Request, error: Exception) -> Response:
    """The answer of an application without a `Service`; counts nothing."""
    assert isinstance(error, ServiceError)
    return Response(problem_bytes(error, instance=request.url.path), error.status, media_type=MEDIA_TYPE)


async def _redis_error(request: Request, error: Exception) -> Response:
    return problem_response(request, Unavailable("the job queue does not answer; try again in a moment"))


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return problem_response(request, error)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path[:200]}; /docs lists the pages"
        return problem_response(request, NotFound(detail))
    if error.status_code == 405:
        allowed = _allowed_methods(request)
        detail = f"{request.method} is not possible at {request.url.path[:200]}; allowed: {allowed}"
        return problem_response(request, MethodNotAllowed(detail), {"Allow": allowed})
    return problem_response(request, RequestError(str(error.detail)), error.headers)


def _allowed_methods(request: Request) -> str:
    """The methods of a page; the framework names only those of the first of its routes."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    routes = request.app.routes
    return ", ".join(
        method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)
    )


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return problem_response(request, InvalidOption(name, f"{name} is {str(first['input'])[:40]!r}: {first['msg']}"))


async def _unexpected(request: Request, error: Exception) -> Response:
    # The server logs the exception with its trace; the caller learns nothing of it.
    detail = "the service failed on this request; its operator finds the reason in the log"
    # This one is answered outside of the layer that adds these headers to all others.
    return problem_response(request, ServiceError(detail), SECURITY_HEADERS)

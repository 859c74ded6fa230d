"""Lets in the requests that bear a key, and says to whom each belongs."""

from __future__ import annotations

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ServiceError
from service.http.error_handlers import ErrorHandlers
from service.http.errors import KeyMissing, KeyWrong
from service.http.pages import PAGE_PATHS
from service.keys import ANONYMOUS, Keys

# Probes have no key. The page is the same for everybody, and asks for the key itself.
FREE_PATHS = PAGE_PATHS | {"/health/live", "/health/ready"}


class RequireKey:
    """Middleware that asks every request for its key, except on `FREE_PATHS`, and notes its owner for `owner_of`.

    It stands before the routes: none can be forgotten, and without a key nobody learns which routes exist.
    """

    def __init__(self, app: ASGIApp, keys: Keys | None, errors: ErrorHandlers) -> None:
        self._app = app
        self._keys = keys
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            request.state.owner = self._owner(request)
        except ServiceError as error:
            await self._errors.answer(request, error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _owner(self, request: Request) -> str:
        # The path by which the route is found. The URL's path would depend on the header `Host` too.
        if self._keys is None or request.scope["path"] in FREE_PATHS:
            return ANONYMOUS
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise KeyMissing("this service needs a key: send the header `Authorization: Bearer KEY`")
        owner = self._keys.owner(key.strip())
        if owner is None:
            raise KeyWrong("the key of this request is not known or no longer valid: ask the operator for another")
        return owner


def owner_of(request: Request) -> str:
    """The name of the request's key, or `ANONYMOUS`."""
    owner: str = request.state.owner
    return owner

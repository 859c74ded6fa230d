"""Lets requests in that bear a key, and says whose they are."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access import ANONYMOUS, Keys
from service.errors import ServiceError
from service.http.errors import KeyMissing, KeyWrong
from service.http.page import PAGE_PATHS
from service.http.problems import problem_response

FREE_PATHS = PAGE_PATHS | {"/health/live", "/health/ready"}
"""What needs no key: probes, which have none, and the page, which is the same for everybody and asks for one."""


class RequireKey:
    """Asks every request for its key, but those for `FREE_PATHS`, and sets the owner for `owner_of`.

    It stands before the routes, so no route can be forgotten, and without a key nobody learns which there are.
    """

    def __init__(self, app: ASGIApp, keys: Keys | None) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            request.state.owner = self._owner(request)
        except ServiceError as error:
            await problem_response(request, error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _owner(self, request: Request) -> str:
        # The path by which the route is found: that of the URL depends on the header `Host` as well.
        if self._keys is None or request.scope["path"] in FREE_PATHS:
            return ANONYMOUS
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise KeyMissing("this service wants a key; send the header `Authorization: Bearer KEY`")
        owner = self._keys.owner(key.strip())
        if owner is None:
            raise KeyWrong("the key of this request is not known here, or not any more; ask the operator for another")
        return owner


def owner_of(request: Request) -> str:
    """Whose request it is: the name of its key, or `ANONYMOUS`."""
    owner: str = request.state.owner
    return owner


def declare_keys(app: FastAPI) -> None:
    """Says in the OpenAPI schema which operations want a key. Call it when all routes are there."""
    schema: dict[str, Any] = app.openapi()
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        if path not in FREE_PATHS:
            for operation in operations.values():
                operation["security"] = [{"key": []}]

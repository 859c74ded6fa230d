"""Web pages: those of named origins may use the service, and no other reaches one that runs without keys."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address

from fastapi import Request, Response
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import PROBLEM_TYPE, ServiceError
from service.fetching import HostPattern
from service.http.errors import HostNotAllowed, OriginNotAllowed
from service.http.middleware import ErrorHandlers

_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]*))?")
_ORIGIN_REMEDY = "the operator can name it in VSG_CORS_ORIGINS"


class AllowOrigins(CORSMiddleware):
    """Middleware that tells browsers which other origins' pages may use the service, by the CORS protocol."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=(
                *("Authorization", "Cache-Control", "Idempotency-Key", "Last-Event-ID", "Prefer"),
                *("traceparent", "tracestate"),
            ),
            expose_headers=("Location", "Preference-Applied", "Retry-After"),
            allow_private_network=True,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        refused = bytes(response.body).decode().removeprefix("Disallowed CORS ")
        error = OriginNotAllowed(f"a page of another origin may not send this {refused}: {_ORIGIN_REMEDY}")
        headers = {"Vary": response.headers["vary"]}
        return Response(json.dumps(error.problem()), error.status, headers, media_type=PROBLEM_TYPE)


class GuardFromPages:
    """Middleware of a service without keys: web pages of other origins do not reach it.

    Such a service trusts whoever is on its machine. A browser there also runs pages from elsewhere. They give
    themselves away by their `Origin`, or by the name that they made lead here (DNS rebinding).

    host: by which the service listens.
    allowed: further names by which it may be called.
    origins: origins whose pages may use it.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        allowed: Collection[HostPattern],
        origins: Collection[str],
        errors: ErrorHandlers,
    ) -> None:
        self._app = app
        self._host = host.lower()
        self._allowed = allowed
        self._origins = origins
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["method"], Headers(scope=scope))
            except ServiceError as error:
                await self._errors.answer(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, method: str, headers: Headers) -> None:
        """Raises HostNotAllowed or OriginNotAllowed."""
        host = headers.get("host")
        if host is not None and not self._is_own(host):
            raise HostNotAllowed(
                f"this service has no keys and does not answer to {host[:80]!r}: use localhost, "
                "or have the operator name the host in VSG_ALLOWED_HOSTS"
            )
        origin = headers.get("origin")
        if origin is None:
            # Browsers send no Origin for pictures and scripts, but say this. Whoever follows a link may come.
            is_link = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
            if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link:
                raise OriginNotAllowed(f"a page of another origin may not use this service: {_ORIGIN_REMEDY}")
        elif not ({origin, "*"} & set(self._origins) or (host is not None and _is_same(origin, host))):
            raise OriginNotAllowed(f"pages of {origin[:80]!r} may not use this service: {_ORIGIN_REMEDY}")

    def _is_own(self, header: str) -> bool:
        match = _HOST_AND_PORT.fullmatch(header.lower())
        if match is None:
            return False
        host, port = match[1].strip("[]").removesuffix("."), match[2]
        if host in (self._host, "localhost") or host.endswith(".localhost") or _is_loopback(host):
            return True
        patterns = (pattern for pattern in self._allowed if pattern.port is None or str(pattern.port) == port)
        return any(pattern.matches_name(host) for pattern in patterns)


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _is_same(origin: str, host: str) -> bool:
    """Whether a page's origin is the host that it calls. The scheme is known to a proxy with TLS only."""
    scheme, _, place = origin.lower().partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme)
    return default is not None and place.removesuffix(default) == host.lower().removesuffix(default)

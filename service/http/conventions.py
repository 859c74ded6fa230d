"""Rules of HTTP that hold for every path: the headers of a request, HEAD, compression, and a proxy's prefix."""

from __future__ import annotations

import re
from collections import Counter

from fastapi import Request
from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipResponder, IdentityResponder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.errors import MalformedHead
from service.http.middleware import ErrorHandlers

# Fields that are no lists (RFC 9110 §5.3): two of them contradict each other, and every reader would choose otherwise.
_SINGLE_HEADERS = {
    *("authorization", "content-length", "content-location", "content-range", "content-type", "date", "from", "host"),
    *("idempotency-key", "if-modified-since", "if-range", "if-unmodified-since", "last-event-id", "max-forwards"),
    *("origin", "proxy-authorization", "range", "referer", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site"),
    "user-agent",
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(:[0-9]{0,5})?")
_COMPRESSED_BYTES = 1024
_COMPRESSION_LEVEL = 4  # on the JSON of graphs, half of what level 9 takes for nearly the same size


class CheckHead:
    """Middleware that refuses a request without a Host, or with two of a header that may come once."""

    def __init__(self, app: ASGIApp, errors: ErrorHandlers) -> None:
        self._app = app
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (mistake := _mistake_in(scope)):
            await self._errors.answer(Request(scope), MalformedHead(mistake))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _mistake_in(scope: Scope) -> str:
    """Returns what is wrong with the headers of a request, and the remedy; an empty text where nothing is."""
    headers = Headers(scope=scope)
    counts = Counter(headers.keys())
    for name in sorted(_SINGLE_HEADERS & counts.keys()):
        if counts[name] > 1:
            return f"the header {name.title()} is given {counts[name]} times: give it once"
    host = headers.get("host")
    if host is None:
        return "" if scope["http_version"] == "1.0" else "the request has no header Host: send one, as HTTP/1.1 asks"
    if not _HOST.fullmatch(host):
        return (
            f"the header Host is {host[:80]!r}: give a name or an address, and the port where it is not the usual one"
        )
    return ""


class AnswerHead:
    """Middleware that answers HEAD as GET, without the body (RFC 9110 §9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        ended = False

        async def without_body(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                await send(message)
            elif not ended:
                ended = True
                await send({"type": "http.response.body", "body": b""})

        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, without_body)
        finally:
            # The middleware around this one counts requests by route.
            scope.update({name: asked[name] for name in ("route", "path_params") if name in asked})


class Compress:
    """Middleware that compresses answers for those who ask for it. Events, and what is compressed already, are not.

    The framework's own takes `gzip;q=0`, which refuses gzip, for a wish; only its parts are used.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _wants_gzip(Headers(scope=scope).getlist("accept-encoding")):
            await GZipResponder(self._app, _COMPRESSED_BYTES, _COMPRESSION_LEVEL)(scope, receive, send)
        else:
            await IdentityResponder(self._app, _COMPRESSED_BYTES)(scope, receive, send)


def _wants_gzip(headers: list[str]) -> bool:
    """Whether `Accept-Encoding` names gzip, and not with the quality 0."""
    for part in ",".join(headers).split(","):
        coding, *parameters = (text.strip().lower() for text in part.split(";"))
        if coding in ("gzip", "x-gzip"):
            return read_quality(parameters) > 0
    return False


def read_quality(parameters: list[str]) -> float:
    """The quality among the parameters of a media type or a coding: 1 where there is none, 0 where it is malformed."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            value = value.strip()
            return float(value) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", value) else 0.0
    return 1.0


class Prefix:
    """Middleware for a service that a proxy offers under a path. The proxy may take the path off, or leave it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._prefix:
            scope = {**scope, "root_path": self._prefix}
            # Paths begin with the root path in ASGI.
            if scope["path"] != self._prefix and not scope["path"].startswith(self._prefix + "/"):
                scope["path"] = self._prefix + scope["path"]
                scope["raw_path"] = self._prefix.encode() + scope["raw_path"]
        await self._app(scope, receive, send)

"""Reads requests for routes: the service, the preferences in headers, and whether the client is still there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request

from service.errors import InvalidOption
from service.formats import MEDIA_TYPES, Format
from service.http.access import RateLimit, owner_of
from service.http.conventions import read_quality
from service.jobs import Jobs, ProcessLife
from service.jobs.life import end_tasks
from service.jobs.rules import Rules
from service.keys import ANONYMOUS
from service.metrics import Metrics
from service.prompt.captioner import Captioner
from service.settings import Settings
from service.storage import Storage

if TYPE_CHECKING:
    from service.search.archive_search import ArchiveSearch

_LONGEST_REQUEST_KEY = 255
_LONGEST_NAME = 80

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """The parts of a running service that its routes use.

    life: of the process; its event `stopping` ends streams.
    check_webhook: raises WebhookNotAllowed for a URL that the operator does not allow.
    rate_limit: None where the operator has set none.
    captioner: None where the operator has set no endpoint for captions.
    search: of the archive; None where the operator keeps none.
    rules: that callers have posted.
    """

    settings: Settings
    life: ProcessLife
    storage: Storage
    jobs: Jobs
    metrics: Metrics
    check_webhook: Callable[[str], None]
    rate_limit: RateLimit | None
    captioner: Captioner | None
    search: ArchiveSearch | None
    rules: Rules


def service_of(request: Request) -> Service:
    """The service that answers this request."""
    service: Service = request.app.state.service
    return service


async def limit_rate(request: Request) -> None:
    """Refuses a request whose caller has sent too many; a dependency of the routes that cause work.

    Raises RateLimited or Unavailable.
    """
    rate_limit = service_of(request).rate_limit
    if rate_limit is None:
        return
    caller = owner_of(request)
    if caller == ANONYMOUS and request.client is not None:
        caller = f"{ANONYMOUS} {request.client.host}"
    await rate_limit.take(caller)


def query_texts(request: Request) -> dict[str, str]:
    """The parameters of the query by name. Raises InvalidOption where one is given twice."""
    texts: dict[str, str] = {}
    for name, text in request.query_params.multi_items():
        if name in texts:
            shown = name[:_LONGEST_NAME]
            raise InvalidOption(shown, f"{shown} is given twice in the query: give it once")
        texts[name] = text
    return texts


def known_parameters(request: Request) -> None:
    """Refuses parameters of the query that the route does not have; a dependency of all routes of the API.

    POST /videos reads its own. Raises InvalidOption.
    """
    if request.method == "POST":
        return
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in query_texts(request):
        if name not in known:
            shown = name[:_LONGEST_NAME]
            remedy = f"use {', '.join(known)}" if known else "leave it out"
            raise InvalidOption(shown, f"{shown!r} is not a parameter of this address: {remedy}")


def address_of(request: Request, video_id: str) -> str:
    """The path of a video, as callers reach it: below the prefix of a proxy."""
    return f"{request.scope.get('root_path', '')}/videos/{video_id}"


def idempotency_key(request: Request) -> str | None:
    """The header `Idempotency-Key`, if it is there. Raises InvalidOption where its length cannot be used."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= _LONGEST_REQUEST_KEY:
        raise InvalidOption(
            "Idempotency-Key", f"Idempotency-Key has {len(key)} characters: give 1 to {_LONGEST_REQUEST_KEY}"
        )
    return key


@dataclass(frozen=True)
class Preference:
    """Returns how long the caller wants POST /videos to wait.

    seconds: to wait, at most the operator's cap.
    applied: value of the header `Preference-Applied`; None where no preference was honoured.
    """

    seconds: float
    applied: str | None


def read_preference(headers: Sequence[str], *, default: float, cap: float) -> Preference:
    """Reads the `Prefer` headers of a request (RFC 7240): `respond-async` and `wait=N`; ignores all others.

    `respond-async` alone does not wait. With `wait=N` the answer is asynchronous only after N seconds.
    """
    respond_async = False
    wait: int | None = None
    for preference in ",".join(headers).split(","):
        name, _, value = preference.split(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "respond-async":
            respond_async = True
        elif name == "wait" and wait is None and re.fullmatch("[0-9]{1,9}", value):
            wait = min(int(value), int(cap))
    applied = ["respond-async"] if respond_async else []
    seconds = 0.0 if respond_async else min(default, cap)
    if wait is not None:
        applied.append(f"wait={wait}")
        seconds = float(wait)
    return Preference(seconds, ", ".join(applied) or None)


def accepted_format(header: str) -> Format:
    """The format that an `Accept` header prefers; JSON where it names none.

    Of equally good formats the first. Ranges such as `*/*` name no format.
    """
    named: list[tuple[float, Format]] = []
    for part in header.split(","):
        media_type, *parameters = (text.strip().lower() for text in part.split(";"))
        for form, known in MEDIA_TYPES.items():
            if media_type == known:
                named.append((read_quality(parameters), form))
    quality, form = max(named, key=lambda pair: pair[0], default=(0.0, "json"))
    return form if quality > 0 else "json"


class ClientLeftError(Exception):
    """The client closed the connection before it had its answer."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves. The request's body must have been read.

    Raises ClientLeftError, and what `work` raises.
    """
    running = asyncio.ensure_future(work)
    # After the body, the only message that can still arrive is that the client has left.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise ClientLeftError
        return running.result()
    finally:
        await end_tasks(running, gone)

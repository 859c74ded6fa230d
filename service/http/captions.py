"""Passes a caption on while it is written."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import structlog
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from service.http.headers import STREAM_HEADERS
from service.http.state import service_of
from service.problem import problem
from service.prompt import Message
from service.prompt.captioner import Captioner
from service.prompt.errors import CaptionFailed

_EVENT_STREAM = "text/event-stream"

log = structlog.get_logger(__name__)


async def caption_response(
    request: Request, video_id: str, captioner: Captioner, messages: Sequence[Message]
) -> Response:
    """The caption as plain text, or as server-sent events for who accepts them.

    Raises CaptionFailed while nothing has been sent. What goes wrong later breaks the text off, so that no client takes
    a part for the whole, and is the last of the events.
    """
    pieces = captioner.caption(messages)
    try:
        first = await anext(pieces, "")
    except CaptionFailed as error:
        log.warning("no caption", id=video_id, reason=str(error))
        raise
    as_events = _EVENT_STREAM in request.headers.get("accept", "")
    stream = _stream(request, video_id, first, pieces)
    return StreamingResponse(
        _events(request, stream) if as_events else stream,
        headers=STREAM_HEADERS,
        media_type=_EVENT_STREAM if as_events else "text/plain",
    )


async def _stream(request: Request, video_id: str, first: str, pieces: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    """All pieces; the endpoint's connection ends with the client's."""
    async with aclosing(pieces):
        yield first
        try:
            async for piece in pieces:
                yield piece
        except CaptionFailed as error:
            log.warning("a caption breaks off", id=video_id, reason=str(error))
            service_of(request).metrics.errors.labels(error.code).inc()
            raise


async def _events(request: Request, pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    try:
        async for piece in pieces:
            yield format_sse_event(event="caption", data_str=json.dumps({"text": piece}))
        yield format_sse_event(event="end", data_str="{}")
    except CaptionFailed as error:
        yield format_sse_event(event="problem", data_str=json.dumps(problem(error, instance=request.url.path)))

"""Answers that are sent piece by piece: the progress of a video as server-sent events, and a caption."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from redis.exceptions import RedisError

from service.errors import ServiceError
from service.http import openapi
from service.http.access import owner_of
from service.http.request import Service, known_parameters, service_of
from service.jobs import Jobs, JobState
from service.prompt import Message
from service.prompt.captioner import Captioner
from service.prompt.errors import CaptionFailed

# After so long without an event a comment is sent: proxies close connections that are silent for longer.
KEEP_ALIVE_SECONDS = 15.0
_KEEP_ALIVE = b": keep-alive\n\n"
_EVENT_STREAM = "text/event-stream"
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second for nginx, which would buffer

log = structlog.get_logger(__name__)
router = APIRouter(tags=["videos"], responses=openapi.PROBLEM_RESPONSES, dependencies=[Depends(known_parameters)])


# Neither FastAPI's own event stream nor sse-starlette: the first fixes headers and interval, the second replaces the
# web server's signal handler and looks twice a second for its end.
@router.get("/videos/{video_id}/events", summary="Progress as server-sent events", **openapi.GET_EVENTS)
async def get_events(request: Request, video_id: openapi.VideoId) -> Response:
    """Events `progress`, then one `end`, after which the stream closes.

    The first event is always the present state, so a client that reconnects needs no replay. The event that it names in
    `Last-Event-ID` is left out; where that is the end, the answer is 204, on which browsers stop asking.
    """
    service, owner = service_of(request), owner_of(request)
    seen = request.headers.get("last-event-id")
    state = await service.jobs.state(video_id, owner)
    if state.is_over and _event_id(state) == seen:
        return Response(status_code=204)
    events = _job_events(service, owner, state, seen)
    return StreamingResponse(events, headers=_STREAM_HEADERS, media_type=_EVENT_STREAM)


async def _job_events(service: Service, owner: str, state: JobState, seen: str | None) -> AsyncIterator[bytes]:
    """The events of a job, with comments while there are none, until the job is over or the service stops."""
    if state.is_over:
        yield _job_event(state)
        return
    events: asyncio.Queue[bytes | None] = asyncio.Queue()
    # Tasks of their own: a wait with a time limit would cancel, and so end, what it waits for.
    tasks = [
        asyncio.create_task(_follow(service.jobs, owner, state.id, seen, events), name=f"events of {state.id}"),
        asyncio.create_task(_end(service.life.stopping, events)),
    ]
    service.metrics.event_streams.inc()
    try:
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    event = await events.get()
            except TimeoutError:
                event = _KEEP_ALIVE
            if event is None:
                return
            yield event
    finally:
        service.metrics.event_streams.dec()
        for task in tasks:
            task.cancel()


async def _follow(jobs: Jobs, owner: str, video_id: str, seen: str | None, events: asyncio.Queue[bytes | None]) -> None:
    """Puts every event into the queue, except the one that was seen last, and None at the end."""
    try:
        async for state in jobs.events(video_id, owner):
            if (event_id := _event_id(state)) != seen:
                events.put_nowait(_job_event(state))
                seen = event_id
    except (RedisError, ServiceError) as error:
        # The answer has begun, so no problem can be sent. A stream without `end` makes the client come back.
        log.warning("a stream of events breaks off", id=video_id, reason=str(error))
    finally:
        events.put_nowait(None)


async def _end(stopping: asyncio.Event, events: asyncio.Queue[bytes | None]) -> None:
    """Ends a stream when the service stops. It has no `end`, so the client comes back, to the next process."""
    await stopping.wait()
    events.put_nowait(None)


def _event_id(state: JobState) -> str:
    return state.status if state.progress is None else f"{state.status}-{state.progress.frames}"


def _job_event(state: JobState) -> bytes:
    name = "end" if state.is_over else "progress"
    return format_sse_event(event=name, data_str=json.dumps(state.as_json()), id=_event_id(state))


async def caption_response(
    request: Request, video_id: str, captioner: Captioner, messages: Sequence[Message]
) -> Response:
    """The caption as it is written: plain text, or server-sent events where the request accepts them.

    Raises CaptionFailed while nothing has been sent. A later failure breaks the text off, so that no client takes a
    part for the whole; among events it is the last one.
    """
    pieces = captioner.caption(messages)
    try:
        first = await anext(pieces, "")
    except CaptionFailed as error:
        log.warning("no caption", id=video_id, reason=str(error))
        raise
    as_events = _EVENT_STREAM in ",".join(request.headers.getlist("accept")).lower()
    text = _caption_text(request, video_id, first, pieces)
    return StreamingResponse(
        _caption_events(request, text) if as_events else text,
        headers=_STREAM_HEADERS,
        media_type=_EVENT_STREAM if as_events else "text/plain",
    )


async def _caption_text(
    request: Request, video_id: str, first: str, pieces: AsyncGenerator[str, None]
) -> AsyncIterator[str]:
    async with aclosing(pieces):  # when the client leaves, the endpoint's connection ends too
        yield first
        try:
            async for piece in pieces:
                yield piece
        except CaptionFailed as error:
            log.warning("a caption breaks off", id=video_id, reason=str(error))
            service_of(request).metrics.errors.labels(error.code).inc()
            raise


async def _caption_events(request: Request, pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    try:
        async for piece in pieces:
            yield format_sse_event(event="caption", data_str=json.dumps({"text": piece}))
        yield format_sse_event(event="end", data_str="{}")
    except CaptionFailed as error:
        yield format_sse_event(event="problem", data_str=json.dumps(error.problem(instance=request.scope["path"])))

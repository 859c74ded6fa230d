"""Server-sent events: what becomes of a video, while it becomes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from redis.exceptions import RedisError

from service.errors import ServiceError
from service.http import documentation
from service.http.access import owner_of
from service.http.headers import STREAM_HEADERS
from service.http.state import Service, service_of
from service.jobs import Jobs, JobState

KEEP_ALIVE_SECONDS = 15.0
"""After so long without an event a comment is sent: proxies close connections that are silent for longer."""
_KEEP_ALIVE = b": keep-alive\n\n"

log = structlog.get_logger(__name__)
router = APIRouter(tags=["videos"], responses=documentation.PROBLEM_RESPONSES)


# Neither FastAPI's own event stream nor sse-starlette: the first fixes headers and interval, the second replaces the
# web server's signal handler and looks twice a second for its end.
@router.get("/videos/{video_id}/events", summary="Progress as server-sent events", **documentation.GET_EVENTS)
async def get_events(request: Request, video_id: documentation.VideoId) -> Response:
    """Events `progress`, then one `end`, after which the stream closes.

    The first event is always the present state, so a client that reconnects needs no replay; the event that it has
    seen, by `Last-Event-ID`, is left out. Who has seen the end is answered 204, on which browsers stop asking.
    """
    service, owner = service_of(request), owner_of(request)
    seen = request.headers.get("last-event-id")
    state = await service.jobs.state(video_id, owner)
    if state.is_over and _event_id(state) == seen:
        return Response(status_code=204)
    return StreamingResponse(
        _stream(service, owner, state, seen), headers=STREAM_HEADERS, media_type="text/event-stream"
    )


async def _stream(service: Service, owner: str, state: JobState, seen: str | None) -> AsyncIterator[bytes]:
    """The events of a job as bytes, with comments while there are none; no more once the service stops."""
    if state.is_over:
        yield _event(state)
        return
    events: asyncio.Queue[bytes | None] = asyncio.Queue()
    # Tasks of their own, so that waiting with a limit does not cancel, and thereby end, what is waited for.
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
    """Puts every event that is not the last one seen, and None when there are no more."""
    try:
        async for state in jobs.events(video_id, owner):
            if (event_id := _event_id(state)) != seen:
                events.put_nowait(_event(state))
                seen = event_id
    except (RedisError, ServiceError) as error:
        # The answer has begun, so no problem can be told; a stream without `end` makes the client come back.
        log.warning("a stream of events breaks off", id=video_id, reason=str(error))
    finally:
        events.put_nowait(None)


async def _end(stopping: asyncio.Event, events: asyncio.Queue[bytes | None]) -> None:
    """Ends a stream when the service stops. There is no `end`, so the client comes back, to the next process."""
    await stopping.wait()
    events.put_nowait(None)


def _event_id(state: JobState) -> str:
    return state.status if state.progress is None else f"{state.status}-{state.progress.frames}"


def _event(state: JobState) -> bytes:
    name = "end" if state.is_over else "progress"
    return format_sse_event(event=name, data_str=json.dumps(state.as_json()), id=_event_id(state))

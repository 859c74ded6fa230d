"""The routes under /videos: post one, look at it, read its prompt, follow it, delete it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterable, Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from models.scene_graph import SceneGraph
from service.api import documentation
from service.api.prefer import read_preference
from service.api.state import Service, service_of
from service.api.upload import receive_upload
from service.errors import InvalidOption, NotReady
from service.jobs import JobState
from service.options import VideoOptions, parse_options
from service.problem import MEDIA_TYPE as PROBLEM_TYPE
from service.prompt import MIN_TOKENS, build_messages, build_prompt

JSON_LINES = "application/jsonl"
_CLIENT_GONE = 499

router = APIRouter(tags=["videos"], responses=documentation.PROBLEM_RESPONSES)


@router.post("/videos", summary="Make the scene graph of a video", **documentation.POST_VIDEO)
async def post_video(request: Request) -> Response:
    """Answers 200 with the graph if it is ready within the wait, else 202 with the `Location` to ask at."""
    service = service_of(request)
    preference = read_preference(
        request.headers.getlist("prefer"), default=service.settings.default_wait, cap=service.settings.max_wait
    )
    # What can be refused without reading the body is refused before it.
    texts = _query_options(request)
    _check_options(service, texts)
    await service.jobs.check_room()

    video_id = secrets.token_hex(16)
    try:
        upload = await receive_upload(request, video_id, service.storage, service.settings)
        service.metrics.upload_bytes.inc(upload.size)
        if twice := sorted(texts.keys() & upload.fields.keys()):
            raise InvalidOption(twice[0], f"{twice[0]} is given in the form and in the query; give it once")
        options = _check_options(service, texts | upload.fields)
        await service.jobs.submit(video_id, upload.sha256, options)
    except BaseException:  # a client that went away cancels this request
        await asyncio.to_thread(service.storage.delete_upload, video_id)
        raise

    if preference.seconds and await _client_left(request, service, video_id, preference.seconds):
        # Nobody has learnt the id, so nobody could ask for the graph.
        await service.jobs.delete(video_id)
        return Response(status_code=_CLIENT_GONE)
    answer = _answer(await service.jobs.state(video_id), unfinished=202)
    answer.headers["Location"] = f"/videos/{video_id}"
    if preference.applied is not None:
        answer.headers["Preference-Applied"] = preference.applied
    return answer


@router.get("/videos/{video_id}", summary="Status, progress, and the graph when it is done", **documentation.GET_VIDEO)
async def get_video(request: Request, video_id: str) -> Response:
    """A failed job answers with its problem. `Accept: application/jsonl` streams the frames, one per line."""
    service = service_of(request)
    if JSON_LINES in request.headers.get("accept", ""):
        graph = await _finished_graph(service, video_id)
        return graph if isinstance(graph, Response) else StreamingResponse(_lines(graph), media_type=JSON_LINES)
    return _answer(await service.jobs.state(video_id), unfinished=200)


@router.get("/videos/{video_id}/prompt", summary="The prompt for a language model", **documentation.GET_PROMPT)
async def get_prompt(
    request: Request,
    video_id: str,
    format: Annotated[Literal["text", "messages"], Query(description="plain text, or chat messages as JSON")] = "text",
    max_tokens: Annotated[int | None, Query(ge=MIN_TOKENS, le=100_000, description="most tokens of the prompt")] = None,
) -> Response:
    """The prompt that hands the graph to a language model."""
    graph = await _finished_graph(service_of(request), video_id)
    if isinstance(graph, Response):
        return graph
    prompt = graph.prompt
    if max_tokens is not None:
        arguments: dict[str, Any] = {"duration": graph.video.duration, "max_tokens": max_tokens}
        prompt = await asyncio.to_thread(build_prompt, graph.frames, graph.relations, **arguments)
    return JSONResponse(build_messages(prompt)) if format == "messages" else PlainTextResponse(prompt)


async def _known_video(request: Request, video_id: str) -> None:
    """Answers 404 before a stream of events has begun; later it could not."""
    await service_of(request).jobs.state(video_id)


@router.get(
    "/videos/{video_id}/events",
    summary="Progress as server-sent events",
    response_class=EventSourceResponse,
    dependencies=[Depends(_known_video)],
)
async def get_events(request: Request, video_id: str) -> AsyncIterable[ServerSentEvent]:
    """Events `queued` and `running` with the progress, then one of `succeeded`, `failed` and `cancelled`, the last.

    The first event is always the present state, so a client that reconnects needs no replay; an event that it has seen,
    by `Last-Event-ID`, is left out.
    """
    seen = request.headers.get("last-event-id")
    async for state in service_of(request).jobs.events(video_id):
        event_id = state.status if state.progress is None else f"{state.status}-{state.progress.frames}"
        if event_id != seen:
            yield ServerSentEvent(event=state.status, data=state.as_json(), id=event_id)
        seen = event_id


@router.delete("/videos/{video_id}", summary="Cancel what runs, delete what is kept", status_code=204)
async def delete_video(request: Request, video_id: str) -> Response:
    """Cancels the job, wherever it is, and deletes its graph."""
    await service_of(request).jobs.delete(video_id)
    return Response(status_code=204)


def _query_options(request: Request) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, text in request.query_params.multi_items():
        if name in texts:
            raise InvalidOption(name[:80], f"{name[:80]} is given twice")
        texts[name] = text
    return texts


def _check_options(service: Service, texts: dict[str, str]) -> VideoOptions:
    options = parse_options(texts)
    service.pipeline.model(options.model)
    return options


async def _client_left(request: Request, service: Service, video_id: str, seconds: float) -> bool:
    """Waits for the job; says whether the client has left before it was over or the time was up."""
    over = asyncio.ensure_future(service.jobs.wait(video_id, seconds))
    # The body has been read, so all that can still arrive is the message that the client has gone.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
        return gone.done() and not over.done()
    finally:
        for task in (over, gone):
            task.cancel()
        await asyncio.wait({over, gone})


def _answer(state: JobState, *, unfinished: int) -> Response:
    if state.content is None:
        return JSONResponse(state.as_json(), unfinished)
    if state.status == "failed":
        return _failed(state.content)
    return Response(state.content, media_type="application/json")


def _failed(content: bytes) -> Response:
    return Response(content, json.loads(content)["status"], media_type=PROBLEM_TYPE)


async def _finished_graph(service: Service, video_id: str) -> SceneGraph | Response:
    """The graph, or the answer of a job that failed. Raises NotReady while it is being made."""
    state = await service.jobs.state(video_id)
    if state.content is None:
        raise NotReady(f"the video is {state.status}; ask again later, or follow /videos/{video_id}/events")
    if state.status == "failed":
        return _failed(state.content)
    return await asyncio.to_thread(SceneGraph.model_validate_json, state.content)


def _lines(graph: SceneGraph) -> Iterator[bytes]:
    for frame in graph.frames:
        yield frame.model_dump_json().encode() + b"\n"

"""The routes under /videos: post one, look at it, read its prompt or caption, delete it; events.py has the one to
follow it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Annotated, Any, Literal, TypeVar

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from models.graph.scene_graph import Frame
from models.graph.vocabulary import Vocabulary
from service.errors import InvalidOption
from service.formats import MEDIA_TYPES, Format, formatted
from service.graph import GraphReader
from service.http import documentation
from service.http.accept import accepted_format
from service.http.access import owner_of
from service.http.captions import caption_response
from service.http.connection import ClientLeftError, while_connected
from service.http.errors import CaptionsOff, NotReady
from service.http.limits import limit_rate
from service.http.link import download, has_link, receive_link
from service.http.prefer import read_preference
from service.http.state import Service, service_of
from service.http.upload import receive_upload
from service.jobs import JobRecord, JobState
from service.jobs.errors import NotFound
from service.options import WEBHOOK, VideoOptions, parse_options
from service.problem import MEDIA_TYPE as PROBLEM_TYPE
from service.prompt import MIN_TOKENS, Appearances, build_messages, build_prompt
from service.storage import StoredResult

_CLIENT_GONE = 499
_LONGEST_REQUEST_KEY = 255
_SMALL_BYTES = 1 << 18  # not streamed: every block of a stream costs several turns of a thread

T = TypeVar("T")
MaxTokens = Annotated[int | None, Query(ge=MIN_TOKENS, le=100_000, description="most tokens of the prompt")]

router = APIRouter(tags=["videos"], responses=documentation.PROBLEM_RESPONSES)


@router.post(
    "/videos",
    summary="Make the scene graph of a video",
    dependencies=[Depends(limit_rate)],
    **documentation.POST_VIDEO,
)
async def post_video(request: Request) -> Response:
    """Answers 200 with the graph if it is ready within the wait, else 202 with the `Location` to ask at."""
    service = service_of(request)
    preference = read_preference(
        request.headers.getlist("prefer"), default=service.settings.default_wait, cap=service.settings.max_wait
    )
    # What can be refused without reading the body is refused before it.
    owner = owner_of(request)
    texts = _query_options(request)
    request_key = _idempotency_key(request)
    await _check_options(service, texts)
    await service.jobs.check_room()
    link = await receive_link(request, service.settings) if has_link(request) else None
    if link is not None:
        texts = _merged(texts, link.fields)
        await _check_options(service, texts)

    new_id = secrets.token_hex(16)
    structlog.contextvars.bind_contextvars(id=new_id)
    try:
        if link is None:
            upload = await receive_upload(request, new_id, service.storage, service.settings)
        else:
            upload = await download(request, link, new_id, service.storage, service.settings)
        service.metrics.upload_bytes.inc(upload.size)
        options, webhook = await _check_options(service, _merged(texts, upload.fields))
        record = JobRecord(owner=owner, sha256=upload.sha256, options=options, webhook=webhook)
        video_id = await service.jobs.submit(
            new_id, record, request_key=request_key, reuse="no-cache" not in request.headers.get("cache-control", "")
        )
    except BaseException:  # a client that went away cancels this request
        await asyncio.to_thread(service.storage.delete_upload, new_id)
        raise

    if preference.seconds:
        try:
            await while_connected(request, service.jobs.wait(video_id, owner, preference.seconds))
        except ClientLeftError:
            if request_key is None:  # nobody has learnt the id, so nobody could ask for the graph
                await service.jobs.delete(video_id, owner)
            return Response(status_code=_CLIENT_GONE)
    answer = await _answer(await service.jobs.state(video_id, owner), unfinished=202)
    answer.headers["Location"] = f"/videos/{video_id}"
    if preference.applied is not None:
        answer.headers["Preference-Applied"] = preference.applied
    return answer


@router.get("/videos/{video_id}", summary="Status, progress, and the graph when it is done", **documentation.GET_VIDEO)
async def get_video(
    request: Request,
    video_id: documentation.VideoId,
    format: Annotated[Format | None, Query(description="instead of the media type in `Accept`")] = None,
) -> Response:
    """A failed job answers with its problem. The other formats are those of a finished graph."""
    chosen = format or accepted_format(request.headers.get("accept", ""))
    state = await service_of(request).jobs.state(video_id, owner_of(request))
    if chosen == "json":
        return await _answer(state, unfinished=200)
    result = _finished(state)
    if result.failed:
        return await _failed(result)
    blocks = await _begun(formatted(result.blocks(), chosen))
    return StreamingResponse(blocks, media_type=MEDIA_TYPES[chosen])


@router.get("/videos/{video_id}/prompt", summary="The prompt for a language model", **documentation.GET_PROMPT)
async def get_prompt(
    request: Request,
    video_id: documentation.VideoId,
    format: Annotated[Literal["text", "messages"], Query(description="plain text, or chat messages as JSON")] = "text",
    max_tokens: MaxTokens = None,
) -> Response:
    """The prompt that hands the graph to a language model."""
    result = _finished(await service_of(request).jobs.state(video_id, owner_of(request)))
    if result.failed:
        return await _failed(result)
    prompt, vocabulary = await _reading(_prompt_of, result, max_tokens)
    return JSONResponse(build_messages(prompt, vocabulary)) if format == "messages" else PlainTextResponse(prompt)


@router.get(
    "/videos/{video_id}/caption",
    summary="A caption by a language model",
    dependencies=[Depends(limit_rate)],
    **documentation.GET_CAPTION,
)
async def get_caption(request: Request, video_id: documentation.VideoId, max_tokens: MaxTokens = None) -> Response:
    """Sends the prompt, without images, to the endpoint that the operator has set, and passes its answer on."""
    service = service_of(request)
    state = await service.jobs.state(video_id, owner_of(request))
    if service.captioner is None:
        raise CaptionsOff(
            "this service asks no language model; its operator would have to set one. "
            f"/videos/{video_id}/prompt has what to send to one of your own"
        )
    result = _finished(state)
    if result.failed:
        return await _failed(result)
    prompt, vocabulary = await _reading(_prompt_of, result, max_tokens)
    return await caption_response(request, video_id, service.captioner, build_messages(prompt, vocabulary))


@router.delete(
    "/videos/{video_id}",
    summary="Cancel what runs, delete what is kept",
    status_code=204,
    **documentation.DELETE_VIDEO,
)
async def delete_video(request: Request, video_id: documentation.VideoId) -> Response:
    """Cancels the job, wherever it is, and deletes its graph."""
    await service_of(request).jobs.delete(video_id, owner_of(request))
    return Response(status_code=204)


def _query_options(request: Request) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, text in request.query_params.multi_items():
        if name in texts:
            raise InvalidOption(name[:80], f"{name[:80]} is given twice")
        texts[name] = text
    return texts


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= _LONGEST_REQUEST_KEY:
        raise InvalidOption("Idempotency-Key", f"the Idempotency-Key has {len(key)} characters; use 1 to 255")
    return key


def _merged(query: dict[str, str], body: dict[str, str]) -> dict[str, str]:
    if twice := sorted(query.keys() & body.keys()):
        raise InvalidOption(twice[0][:80], f"{twice[0][:80]} is given in the body and in the query; give it once")
    return query | body


async def _check_options(service: Service, texts: dict[str, str]) -> tuple[VideoOptions, str | None]:
    """The options, and the URL of the webhook, if one is wanted."""
    options, webhook = parse_options(texts), texts.get(WEBHOOK, "").strip() or None
    await service.jobs.catalog.find(options.model)
    if webhook is not None:
        service.queue.webhooks.check(webhook)
    return options, webhook


async def _answer(state: JobState, *, unfinished: int) -> Response:
    if state.result is None:
        return JSONResponse(state.as_json(), unfinished)
    if state.result.failed:
        return await _failed(state.result)
    if state.result.size <= _SMALL_BYTES:
        return Response(await _reading(state.result.read), media_type="application/json")
    headers = {"Content-Length": str(state.result.size)}
    return StreamingResponse(await _begun(state.result.blocks()), headers=headers, media_type="application/json")


def _finished(state: JobState) -> StoredResult:
    """What came out of a job. Raises NotReady while it is being made."""
    if state.result is None:
        raise NotReady(f"the video is {state.status}; ask again later, or follow /videos/{state.id}/events")
    return state.result


async def _failed(result: StoredResult) -> Response:
    content = await _reading(result.read)
    return Response(content, json.loads(content)["status"], media_type=PROBLEM_TYPE)


async def _begun(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks, the first of them read, so that what is not there is told before the answer has begun."""
    first = await _reading(next, blocks, b"")
    return chain([first], blocks)


async def _reading(read: Callable[..., T], *arguments: Any) -> T:
    """Reads a result in a thread. Raises NotFound when it was deleted since its job was looked at."""
    try:
        return await asyncio.to_thread(read, *arguments)
    except FileNotFoundError as error:
        raise NotFound("the video was deleted in this moment; post it again if it is still needed") from error


def _prompt_of(result: StoredResult, max_tokens: int | None) -> tuple[str, Vocabulary]:
    graph = GraphReader(result.blocks())
    vocabulary = graph.head.vocabulary
    if max_tokens is None:
        return graph.tail().prompt, vocabulary
    appearances = Appearances.of(map(Frame.model_validate_json, graph.frames()))
    duration = graph.head.video.duration
    prompt = build_prompt(appearances, graph.tail().relations, vocabulary, duration=duration, max_tokens=max_tokens)
    return prompt, vocabulary

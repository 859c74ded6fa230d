"""The routes under /videos: post a video, look at it, read its prompt or caption, delete it. `streams` follows it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Annotated, Any, Literal, TypeVar

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BeforeValidator, Field
from redis.exceptions import RedisError

from models.graph.scene_graph import Frame
from models.graph.validation import check_digits
from models.graph.vocabulary import Vocabulary
from service.errors import PROBLEM_TYPE, StorageUnavailable
from service.formats import MEDIA_TYPES, Format, formatted
from service.graph import GraphReader
from service.http import openapi
from service.http.access import owner_of
from service.http.errors import CaptionsOff, FrameNotKept, NotReady
from service.http.request import (
    ClientLeftError,
    Service,
    accepted_format,
    address_of,
    idempotency_key,
    known_parameters,
    limit_rate,
    query_texts,
    read_preference,
    service_of,
    while_connected,
)
from service.http.streams import caption_response
from service.http.uploads import fetch_video, has_url, receive_upload, receive_url
from service.jobs import JobRecord, JobState
from service.jobs.catalog import ServedModel, find_model
from service.jobs.errors import NotFound
from service.options import RequestOptions
from service.prompt import MIN_TOKENS, Appearances, KeyFrame, build_messages, build_prompt
from service.stored_files import StoredResult

_CLIENT_GONE = 499
_LONGEST_INDEX = 12  # digits of a frame's index
_SMALL_BYTES = 1 << 18  # not streamed: every block of a stream costs several turns of a thread

T = TypeVar("T")
MaxTokens = Annotated[
    Annotated[int, Field(ge=MIN_TOKENS, le=100_000)] | None,
    BeforeValidator(check_digits),
    Query(description="most tokens of the prompt"),
]
Images = Annotated[Literal["true", "false"], Query(description="whether the frames that are kept are sent too")]

router = APIRouter(tags=["videos"], responses=openapi.PROBLEM_RESPONSES, dependencies=[Depends(known_parameters)])


@router.post(
    "/videos", summary="Make the scene graph of a video", dependencies=[Depends(limit_rate)], **openapi.POST_VIDEO
)
async def post_video(request: Request) -> Response:
    """Answers 200 with the graph if it is ready within the wait, else 202 with the `Location` to ask at."""
    # The way of a request. Each step refuses what it can (in parentheses), so that the next ones, which cost more, are
    # for good requests only:
    #   connection      reads the head, in time and of a size (400, 431)
    #   conventions     checks the headers that every request needs (400), origins the page that asks (403)
    #   authentication  finds the owner of the key (401)
    #   limit_rate      counts the caller's requests (429)
    #   here            1. options of the query (422), model (422) and webhook (403); the one look at the catalogue
    #                   2. room in the queue, and for the owner (429)
    #                   3. body: an upload, or JSON and what its URL has (400 to 424); its options join those of 1
    #                   4. job: the queue takes it, if there is room still (429), or has such a graph already
    #                   5. wait, and answer
    service, owner = service_of(request), owner_of(request)
    preference = read_preference(
        request.headers.getlist("prefer"), default=service.settings.default_wait, cap=service.settings.max_wait
    )
    request_key = idempotency_key(request)
    options = RequestOptions.from_texts(query_texts(request))
    models = await service.jobs.catalog.models()

    def served_model(options: RequestOptions) -> ServedModel:
        """The model that the options name. Raises UnknownModel, and WebhookNotAllowed for a webhook."""
        if options.webhook is not None:
            service.check_webhook(options.webhook)
        return find_model(models, options.model)

    model = served_model(options)
    await service.jobs.check_room(owner)

    new_id = secrets.token_hex(16)
    structlog.contextvars.bind_contextvars(id=new_id)
    try:
        if has_url(request):
            video = await receive_url(request, service.settings)
            options = options.with_body(video)
            model = served_model(options)
            upload = await fetch_video(request, video.url, new_id, service.storage, service.settings)
        else:
            upload = await receive_upload(request, new_id, service.storage, service.settings)
            if upload.fields:
                options = options.with_body(RequestOptions.from_texts(upload.fields))
                model = served_model(options)
        service.metrics.upload_bytes.inc(upload.size)
    except BaseException:  # a client that leaves cancels this request
        with suppress(StorageUnavailable):
            await asyncio.to_thread(service.storage.delete_upload, new_id)
        raise

    video_id = await service.jobs.submit(
        new_id,
        JobRecord(owner=owner, sha256=upload.sha256, options=options.of_graph, webhook=options.webhook),
        model.reference,
        request_key=request_key,
        reuse="no-cache" not in ",".join(request.headers.getlist("cache-control")).lower(),
    )

    try:
        if preference.seconds:
            await while_connected(request, service.jobs.wait(video_id, owner, preference.seconds))
        answer = await _answer(await service.jobs.state(video_id, owner), unfinished=202)
    except ClientLeftError:
        if request_key is None:  # nobody knows the id, so nobody could ask for the graph
            await service.jobs.delete(video_id, owner)
        return Response(status_code=_CLIENT_GONE)
    except (RedisError, StorageUnavailable):  # the video is accepted all the same, and must not be sent again
        answer = JSONResponse(JobState(video_id, "queued").as_json(), 202)
    answer.headers["Location"] = address_of(request, video_id)
    if preference.applied is not None:
        answer.headers["Preference-Applied"] = preference.applied
    return answer


@router.get("/videos/{video_id}", summary="Status, progress, and the graph when it is done", **openapi.GET_VIDEO)
async def get_video(
    request: Request,
    video_id: openapi.VideoId,
    format: Annotated[Format | None, Query(description="instead of the media type in `Accept`")] = None,
) -> Response:
    """A failed job answers with its problem. Other formats than JSON need a finished graph."""
    chosen = format or accepted_format(",".join(request.headers.getlist("accept")))
    state = await service_of(request).jobs.state(video_id, owner_of(request))
    if chosen == "json":
        return await _answer(state, unfinished=200)
    result = _finished(request, state)
    if result.failed:
        return await _failed(result)
    blocks = await _begun(formatted(result.blocks(), chosen))
    return StreamingResponse(blocks, media_type=MEDIA_TYPES[chosen])


@router.get("/videos/{video_id}/frames/{index}.jpg", summary="A frame that is kept as a picture", **openapi.GET_FRAME)
async def get_frame(request: Request, video_id: openapi.VideoId, index: openapi.FrameIndex) -> Response:
    """A frame of those that `kept_frames` of the graph names, as the model saw it but for size and JPEG."""
    service, owner = service_of(request), owner_of(request)
    result = _finished(request, await service.jobs.state(video_id, owner))
    if result.failed:
        return await _failed(result)
    frame = None
    if index.isdecimal() and len(index) <= _LONGEST_INDEX:
        frame = await asyncio.to_thread(service.storage.kept_frames(result.graph_id, owner).frame, int(index))
    if frame is None:
        raise FrameNotKept(
            f"frame {index[:_LONGEST_INDEX]!r} is not kept as a picture: `kept_frames` of the graph names those that "
            "are, if the operator has any kept"
        )
    etag = f'"{hashlib.sha256(frame.jpeg).hexdigest()[:32]}"'
    # Kept by the caller's own browser, which asks each time whether the picture is still there.
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(frame.jpeg, headers=headers, media_type="image/jpeg")


@router.get("/videos/{video_id}/prompt", summary="The prompt for a language model", **openapi.GET_PROMPT)
async def get_prompt(
    request: Request,
    video_id: openapi.VideoId,
    format: Annotated[Literal["text", "messages"], Query(description="plain text, or chat messages as JSON")] = "text",
    max_tokens: MaxTokens = None,
    images: Images = "true",
) -> Response:
    """The prompt that describes the graph to a language model. Messages carry the frames that are kept."""
    service, owner = service_of(request), owner_of(request)
    result = _finished(request, await service.jobs.state(video_id, owner))
    if result.failed:
        return await _failed(result)
    prompt, vocabulary = await _reading(_prompt_of, result, max_tokens)
    if format == "text":
        return PlainTextResponse(prompt)
    key_frames = await _key_frames(service, result.graph_id, owner) if images == "true" else []
    return JSONResponse(build_messages(prompt, vocabulary, key_frames))


@router.get(
    "/videos/{video_id}/caption",
    summary="A caption by a language model",
    dependencies=[Depends(limit_rate)],
    **openapi.GET_CAPTION,
)
async def get_caption(
    request: Request, video_id: openapi.VideoId, max_tokens: MaxTokens = None, images: Images = "true"
) -> Response:
    """Sends the prompt and the kept frames to the endpoint that the operator has set, and passes its answer on."""
    service, owner = service_of(request), owner_of(request)
    state = await service.jobs.state(video_id, owner)
    if service.captioner is None:
        raise CaptionsOff(
            "this service asks no language model, because its operator has set none: "
            f"send {address_of(request, video_id)}/prompt to one of your own"
        )
    result = _finished(request, state)
    if result.failed:
        return await _failed(result)
    prompt, vocabulary = await _reading(_prompt_of, result, max_tokens)
    key_frames = await _key_frames(service, result.graph_id, owner) if images == "true" else []
    messages = build_messages(prompt, vocabulary, key_frames)
    return await caption_response(request, video_id, service.captioner, messages)


@router.delete(
    "/videos/{video_id}", summary="Cancel what runs, delete what is kept", status_code=204, **openapi.DELETE_VIDEO
)
async def delete_video(request: Request, video_id: openapi.VideoId) -> Response:
    """Cancels the job, wherever it is, and deletes its graph."""
    await service_of(request).jobs.delete(video_id, owner_of(request))
    return Response(status_code=204)


async def _key_frames(service: Service, graph_id: str, owner: str) -> list[KeyFrame]:
    """The frames that are kept beside a graph, in order."""
    kept = await asyncio.to_thread(service.storage.kept_frames(graph_id, owner).read)
    return [kept[index] for index in sorted(kept)]


async def _answer(state: JobState, *, unfinished: int) -> Response:
    if state.result is None:
        return JSONResponse(state.as_json(), unfinished)
    if state.result.failed:
        return await _failed(state.result)
    if state.result.size <= _SMALL_BYTES:
        return Response(await _reading(state.result.read), media_type="application/json")
    headers = {"Content-Length": str(state.result.size)}
    return StreamingResponse(await _begun(state.result.blocks()), headers=headers, media_type="application/json")


def _finished(request: Request, state: JobState) -> StoredResult:
    """The result of a job. Raises NotReady while it is being made."""
    if state.result is None:
        raise NotReady(
            f"the video is {state.status}: ask again later, or follow {address_of(request, state.id)}/events"
        )
    return state.result


async def _failed(result: StoredResult) -> Response:
    content = await _reading(result.read)
    return Response(content, json.loads(content)["status"], media_type=PROBLEM_TYPE)


async def _begun(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same blocks, with the first one read: an error shows before the answer begins."""
    first = await _reading(next, blocks, b"")
    return chain([first], blocks)


async def _reading(read: Callable[..., T], *arguments: Any) -> T:
    """Reads a result in a thread. Raises NotFound where it was deleted since its job was looked at."""
    try:
        return await asyncio.to_thread(read, *arguments)
    except FileNotFoundError as error:
        raise NotFound("the video has just been deleted: post it again if you still need it") from error


def _prompt_of(result: StoredResult, max_tokens: int | None) -> tuple[str, Vocabulary]:
    graph = GraphReader(result.blocks())
    vocabulary = graph.head.vocabulary
    if max_tokens is None:
        return graph.tail().prompt, vocabulary
    appearances = Appearances.of(map(Frame.model_validate_json, graph.frames()))
    duration = graph.head.video.duration
    prompt = build_prompt(appearances, graph.tail().relations, vocabulary, duration=duration, max_tokens=max_tokens)
    return prompt, vocabulary

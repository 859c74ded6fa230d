"""Receives a video, uploaded or at a URL: streamed to storage under a name of ours, counted, hashed, limited, checked.

Starlette's own form parser would first spool the whole body to a temporary file of any size.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from pydantic import ConfigDict, Field, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from models.graph.validation import first_mistake
from service.errors import BodyTooLarge, EmptyUpload, InvalidOption, RequestError, UrlNotAllowed
from service.fetching import FetchPolicy, fetch
from service.http.errors import MalformedUpload, MissingVideo, UnsupportedContentType, UploadStalled
from service.http.request import ClientLeftError, while_connected
from service.options import RequestOptions
from service.settings import Settings
from service.storage import Storage
from service.stored_files import UploadWriter
from service.video import sniff_container

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

VIDEO_FIELD = "video"
URL_FIELD = "url"
_ACCEPTED = "multipart/form-data with a field `video`, or the bytes themselves, such as video/mp4"
_FLUSH_BYTES = 256 * 1024
_FIELD_BYTES = 1024
_MOST_FIELDS = 32
_JSON_BYTES = 16 * 1024


class VideoUrl(RequestOptions):
    """The JSON body of POST /videos: where the video is, and the options beside it, with JSON's own types."""

    model_config = ConfigDict(strict=True)

    url: str = Field(
        json_schema_extra={"format": "uri"}, description="where the video is; only hosts that the operator has named"
    )


@dataclass(frozen=True)
class Upload:
    """A stored video.

    size: in bytes.
    sha256: of the bytes, in hex.
    fields: the form's other fields.
    """

    size: int
    sha256: str
    fields: dict[str, str]


def has_url(request: Request) -> bool:
    """Whether the body of a request is JSON, which says where the video is."""
    return parse_options_header(request.headers.get("content-type"))[0] == b"application/json"


async def receive_url(request: Request, settings: Settings) -> VideoUrl:
    """Reads a JSON body.

    Raises UrlNotAllowed where the operator does not allow the URL, MissingVideo, InvalidOption or another RequestError.
    """
    if not settings.url_hosts:
        raise UrlNotAllowed(f"this service fetches no URLs: send {_ACCEPTED}")
    body = await read_json(request, settings, remedy="send the URL and the options alone")
    try:
        video = VideoUrl.model_validate_json(body)
    except ValidationError as error:
        raise _json_error(error) from error
    check_names(body)
    url_policy(settings).check(video.url)
    return video


async def read_json(request: Request, settings: Settings, *, remedy: str) -> bytes:
    """The body of a request, which should be small. Raises MalformedUpload, with this remedy, where it is not."""
    body = bytearray()
    async for chunk in _read_body(request, settings):
        body += chunk
        if len(body) > _JSON_BYTES:
            raise MalformedUpload(f"the JSON has more than {_JSON_BYTES} bytes: {remedy}")
    return bytes(body)


def check_names(body: bytes) -> None:
    """Raises InvalidOption where an object of this JSON has a name twice."""
    json.loads(body, object_pairs_hook=_given_once)


def _given_once(pairs: list[tuple[str, object]]) -> None:
    """Refuses a JSON object that has a name twice, of which pydantic takes the last. Raises InvalidOption."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidOption(name, f"{name} is given twice in the JSON: give it once")


def url_policy(settings: Settings) -> FetchPolicy:
    """The operator's rules for URLs of videos."""
    return FetchPolicy(
        settings.url_hosts,
        settings.url_networks,
        max_bytes=settings.max_body_bytes,
        idle_seconds=settings.upload_idle_seconds,
        total_seconds=settings.url_seconds,
    )


def _json_error(error: ValidationError) -> RequestError:
    mistake = first_mistake(error)
    if mistake.kind == "missing":
        return MissingVideo(f"the JSON has no `{mistake.place}`: give the URL of the video")
    if not mistake.path and mistake.kind != "value_error":
        return MalformedUpload(f"the body is not a JSON object: {mistake.reason}")
    return VideoUrl.invalid_option(error)


async def fetch_video(request: Request, url: str, video_id: str, storage: Storage, settings: Settings) -> Upload:
    """Stores the video at a URL, unless the client leaves.

    Raises a RequestError, EmptyUpload or UnsupportedMedia, as early as the reason is known. The caller deletes the
    upload then; this function only closes it.
    """

    async def download() -> Upload:
        async with _stored(storage, video_id, settings) as sink, aclosing(fetch(url, url_policy(settings))) as blocks:
            async for block in blocks:
                await sink.write(block)
        return Upload(sink.writer.size, sink.writer.sha256, {})

    try:
        return await while_connected(request, download())
    except ClientLeftError:
        raise MalformedUpload("the connection ended before the video was fetched") from None


async def receive_upload(request: Request, video_id: str, storage: Storage, settings: Settings) -> Upload:
    """Stores the video of a request body.

    Raises a RequestError, EmptyUpload or UnsupportedMedia, as early as the reason is known. The caller deletes the
    upload then; this function only closes it.
    """
    media_type, parameters = parse_options_header(request.headers.get("content-type"))
    _refuse_by_headers(request, media_type, settings.max_body_bytes)
    body = _read_body(request, settings)
    fields: dict[str, str] = {}
    async with _stored(storage, video_id, settings) as sink:
        if media_type == b"multipart/form-data":
            fields = await _receive_form(body, parameters.get(b"boundary", b""), sink)
        else:
            async for chunk in body:
                await sink.write(chunk)
    return Upload(sink.writer.size, sink.writer.sha256, fields)


def _refuse_by_headers(request: Request, media_type: bytes, limit: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise BodyTooLarge(f"the body has {int(declared)} bytes: send at most {limit}")
    if declared == "0" or (not declared and "transfer-encoding" not in request.headers):
        raise EmptyUpload(f"the request has no body: send {_ACCEPTED}")
    shown = media_type.decode("latin-1")[:80]
    if shown != "multipart/form-data" and not _may_be_video(shown):
        raise UnsupportedContentType(f"the Content-Type is {shown}: send {_ACCEPTED}")


def _may_be_video(media_type: str) -> bool:
    """Whether the content may decide what a body is, because its type does not say that it is something else."""
    kind, _, name = media_type.partition("/")
    if kind == "application":
        return name != "x-www-form-urlencoded" and not name.endswith("json")
    return kind in ("video", "audio", "binary") or media_type in ("", "image/gif")


async def _read_body(request: Request, settings: Settings) -> AsyncIterator[bytes]:
    """The chunks of the body as they arrive, within the operator's limits of size and time.

    Raises BodyTooLarge, UploadStalled or MalformedUpload.
    """
    limit, patience = settings.max_body_bytes, settings.upload_idle_seconds
    received = 0
    stream = request.stream()
    clock = asyncio.get_running_loop().time
    end = clock() + settings.upload_seconds
    while True:
        try:
            # The time limit is not around the whole loop, where it would strike while the caller stores a chunk.
            async with asyncio.timeout_at(min(end, clock() + patience)):
                chunk = await anext(stream, None)
        except ClientDisconnect as error:
            raise MalformedUpload("the connection ended before the body did") from error
        except TimeoutError as error:
            if clock() >= end:
                detail = f"the body has not ended after {settings.upload_seconds:g} seconds: send a smaller one"
                raise UploadStalled(detail) from error
            raise UploadStalled(f"no byte of the body has arrived for {patience:g} seconds: send it again") from error
        if chunk is None:
            return
        received += len(chunk)
        if received > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes: send less")
        yield chunk


@asynccontextmanager
async def _stored(storage: Storage, video_id: str, settings: Settings) -> AsyncIterator[_Sink]:
    """Takes the bytes of a video. Raises EmptyUpload or UnsupportedMedia, at the end at the latest."""
    sink = _Sink(await asyncio.to_thread(storage.open_upload, video_id), settings.upload_idle_seconds / 4)
    try:
        yield sink
        await sink.finish()
        await asyncio.to_thread(sink.writer.close)
    except BaseException:
        await asyncio.to_thread(sink.writer.abandon)
        raise


class _Sink:
    """Passes bytes on in large pieces. The first piece must look like a video before anything is stored."""

    def __init__(self, writer: UploadWriter, touch_seconds: float) -> None:
        """`touch_seconds`: after which a slow upload shows that it still arrives, so that it is not swept."""
        self.writer = writer
        self._buffer = bytearray()
        self._touch_seconds = touch_seconds
        self._moved_at = time.monotonic()

    async def write(self, data: bytes) -> None:
        """Takes some bytes. Raises UnsupportedMedia, StorageUnavailable or StorageFull."""
        self._buffer += data
        if len(self._buffer) >= _FLUSH_BYTES:
            await self._flush()
        elif time.monotonic() - self._moved_at > self._touch_seconds:
            await asyncio.to_thread(self.writer.touch)
        else:
            return
        self._moved_at = time.monotonic()

    async def finish(self) -> None:
        """Stores what is left. Raises EmptyUpload or UnsupportedMedia."""
        if self.writer.size == 0 and not self._buffer:
            raise EmptyUpload("the video has no bytes: send the file itself")
        await self._flush()

    async def _flush(self) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        if self.writer.size == 0:
            sniff_container(data)
        if data:
            await asyncio.to_thread(self.writer.write, data)


class _Form:
    """Reads a multipart form piece by piece: `feed` returns the bytes of the video, the other fields are kept."""

    def __init__(self, boundary: bytes) -> None:
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._part_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)
        self._video = bytearray()
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._value = bytearray()
        self.fields: dict[str, str] = {}
        self.has_video = False
        self.is_complete = False

    def feed(self, chunk: bytes) -> bytes:
        """Takes a piece of the body; returns the bytes of the video in it. Raises FormParserError or a RequestError."""
        self._parser.write(chunk)
        video = bytes(self._video)
        self._video.clear()
        return video

    def _begin_part(self) -> None:
        self._name = ""
        self._value.clear()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _end_header(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            _, parameters = parse_options_header(bytes(self._header[1]))
            self._name = parameters.get(b"name", b"").decode("utf-8", "replace")
        self._header = (bytearray(), bytearray())

    def _end_headers(self) -> None:
        if self._name == VIDEO_FIELD:
            if self.has_video:
                raise MalformedUpload("the form has two fields `video`: send one video per request")
            self.has_video = True
        elif not self._name:
            raise MalformedUpload("a part of the form has no name in its Content-Disposition: give it one")
        elif self._name in self.fields:
            raise InvalidOption(self._name[:80], f"{self._name[:80]} is given twice in the form: give it once")
        elif len(self.fields) == _MOST_FIELDS:
            raise MalformedUpload(f"the form has more than {_MOST_FIELDS} fields besides the video: send fewer")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == VIDEO_FIELD:
            self._video += data[start:end]
            return
        self._value += data[start:end]
        if len(self._value) > _FIELD_BYTES:
            detail = f"the form's field {self._name[:80]!r} has more than {_FIELD_BYTES} bytes"
            raise MalformedUpload(f"{detail}: send the file in `video`")

    def _end_part(self) -> None:
        if self._name != VIDEO_FIELD:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.is_complete = True


async def _receive_form(body: AsyncIterator[bytes], boundary: bytes, sink: _Sink) -> dict[str, str]:
    if not boundary:
        raise MalformedUpload("the Content-Type has no boundary: let the HTTP client set the header")
    try:
        form = _Form(boundary)
        async for chunk in body:
            await sink.write(form.feed(chunk))
    except FormParserError as error:
        raise MalformedUpload(f"the body is not a multipart form: {error}") from error
    if not form.is_complete:
        raise MalformedUpload("the form ends before its closing boundary: send it whole")
    if not form.has_video:
        raise MissingVideo("the form has no field `video`: send the file in it, such as: curl -F video=@clip.mp4")
    return form.fields

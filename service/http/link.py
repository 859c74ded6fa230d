"""Receives a video as JSON that says where it is: fetched while the request waits, and stored like an upload."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

from fastapi import Request
from pydantic import ConfigDict, Field, ValidationError
from python_multipart.multipart import parse_options_header

from service.errors import InvalidOption
from service.fetching import FetchPolicy, fetch
from service.fetching.errors import UrlNotAllowed
from service.http.connection import ClientLeftError, while_connected
from service.http.errors import MalformedUpload, MissingVideo
from service.http.upload import ACCEPTED, Upload, read_body, stored
from service.options import VideoOptions
from service.settings import Settings
from service.storage import Storage

URL_FIELD = "url"
_BODY_BYTES = 16 * 1024


class LinkBody(VideoOptions):
    """The JSON body of POST /videos; what is not about its types is checked where the options of a form are."""

    model_config = ConfigDict(strict=True)

    url: str = Field(json_schema_extra={"format": "uri"})
    webhook: str | None = None


@dataclass(frozen=True)
class Link:
    """Where a video is, and the options beside it, as a form would give them."""

    url: str
    fields: dict[str, str]


def has_link(request: Request) -> bool:
    """Whether the body of a request is JSON."""
    return parse_options_header(request.headers.get("content-type"))[0] == b"application/json"


async def receive_link(request: Request, settings: Settings) -> Link:
    """Reads a JSON body.

    Raises UrlNotAllowed when the operator allows none, MissingVideo, InvalidOption or another RequestError.
    """
    if not settings.url_hosts:
        raise UrlNotAllowed(f"this service fetches no URLs; send {ACCEPTED}")
    body = bytearray()
    async for chunk in read_body(request, settings):
        body += chunk
        if len(body) > _BODY_BYTES:
            raise MalformedUpload(f"the JSON has more than {_BODY_BYTES} bytes; it needs only the URL and the options")
    try:
        link = LinkBody.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _problem(error) from error
    url_policy(settings).check(link.url)
    values = link.model_dump(exclude={URL_FIELD}, exclude_unset=True, exclude_none=True)
    return Link(link.url, {name: _text(value) for name, value in values.items()})


def url_policy(settings: Settings) -> FetchPolicy:
    """Returns what the operator allows URLs of videos."""
    return FetchPolicy(
        settings.url_hosts,
        settings.url_networks,
        max_bytes=settings.max_body_bytes,
        idle_seconds=settings.upload_idle_seconds,
        total_seconds=settings.url_seconds,
    )


async def download(request: Request, link: Link, video_id: str, storage: Storage, settings: Settings) -> Upload:
    """Stores the video of a link, for as long as the client is there.

    Raises a RequestError, EmptyUpload or UnsupportedMedia, as early as the reason is known. The caller deletes the
    upload then; this function only closes it.
    """
    try:
        return await while_connected(request, _download(link.url, video_id, storage, settings))
    except ClientLeftError:
        raise MalformedUpload("the connection ended before the video was fetched") from None


async def _download(url: str, video_id: str, storage: Storage, settings: Settings) -> Upload:
    async with stored(storage, video_id) as sink, aclosing(fetch(url, url_policy(settings))) as blocks:
        async for block in blocks:
            await sink.write(block)
    return Upload(sink.writer.size, sink.writer.sha256, {})


def _problem(error: ValidationError) -> MalformedUpload | MissingVideo | InvalidOption:
    first = error.errors()[0]
    if not first["loc"]:
        return MalformedUpload(f"the body is not a JSON object: {first['msg']}")
    name = str(first["loc"][0])[:80]
    if first["type"] == "missing":
        return MissingVideo(f"the JSON has no `{name}`; it says where the video is")
    return InvalidOption(name, f"{name} is {str(first['input'])[:40]!r}: {first['msg']}")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

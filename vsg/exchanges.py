"""The requests that `Client` and `AsyncClient` send to a service, and how they read its answers.

Nothing is sent here. An exchange is a generator: it yields the calls to send and the pauses to make, gets the outcome
of each, and returns its result. The clients differ only in how they send and wait.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from models.graph.scene_graph import SceneGraph
from vsg.errors import ProblemError, UnreachableError, problem_error
from vsg.values import ClientOptions, Job, ModelInfo, MomentPage, Progress, VideoFile, option_texts

BLOCK_BYTES = 1 << 18
DEFAULT_TIMEOUT = 60.0
DEFAULT_RETRY_SECONDS = 60.0
_BROKEN_CONNECTIONS = 3  # in a row; after so many the service is unreachable
_RECONNECT_SECONDS = 0.5
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between two looks at a job
_PAUSE_SHARE = 0.1  # of the time waited so far
_MODELS = TypeAdapter(dict[str, list[ModelInfo]])

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """A request to send.

    upload: a file whose bytes are the body, from where it stands.
    json: the body where there is no upload; None for no body.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: BinaryIO | None = None
    json: Any = None


@dataclass(frozen=True)
class Pause:
    """Seconds to wait."""

    seconds: float


Outcome: TypeAlias = httpx.Response | httpx.TransportError | None
"""Of a call the response, read whole, or why there is none; None of a pause."""
Exchange: TypeAlias = Generator[Call | Pause, Outcome, T]


def http_options(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    """The arguments of an httpx client. Raises ValueError where the URL is none."""
    if not re.match(r"https?://[^/]", url):
        raise ValueError(f"the URL of a service is {url!r}: give one such as http://127.0.0.1:8000")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": url, "headers": headers, "timeout": timeout}


def place_of(video_id: str) -> str:
    """The path of a video, whatever its id holds."""
    return f"/videos/{quote(video_id, safe='')}"


def is_url(video: object) -> bool:
    """Whether a video is to be fetched by the service."""
    return isinstance(video, str) and re.match(r"https?://", video, re.IGNORECASE) is not None


@contextmanager
def opened(video: str | VideoFile) -> Iterator[BinaryIO | None]:
    """The file to upload; None for a URL. Raises OSError where there is no such file."""
    if is_url(video):
        yield None
    elif isinstance(video, bytes):
        yield io.BytesIO(video)
    elif isinstance(video, str | os.PathLike):
        with Path(video).open("rb") as file:
            yield file
    else:
        yield video


def upload_headers(file: BinaryIO) -> dict[str, str]:
    """The headers of an upload; its length where the file knows it, so that a service can refuse it at once."""
    headers = {"Content-Type": "application/octet-stream"}
    if file.seekable():
        here = file.tell()
        headers["Content-Length"] = str(file.seek(0, io.SEEK_END) - here)
        file.seek(here)
    return headers


class Exchanges:
    """The exchanges with one service.

    retry_seconds: for how long a request is sent again that the service has no room for.
    """

    def __init__(self, retry_seconds: float) -> None:
        self._retry_seconds = retry_seconds

    def post(self, url: str | None, file: BinaryIO | None, options: ClientOptions) -> Exchange[Job | SceneGraph]:
        """Posts a video without waiting for its graph, which may be there all the same."""
        # The key lets the service recognise a request that is sent again, because its answer got lost.
        headers = {"Prefer": "respond-async", "Idempotency-Key": str(uuid.uuid4())}
        call = Call("POST", "/videos", option_texts(options), headers, file, None if url is None else {"url": url})
        return _job_or_graph((yield from self._answered(call)))

    def finish(
        self, video_id: str, timeout: float | None, progress: Callable[[Progress], None] | None
    ) -> Exchange[SceneGraph]:
        """Asks for a graph until it is there. Raises TimeoutError, or what became of the job instead."""
        began = time.monotonic()
        told: Progress | None = None
        while True:
            found = _job_or_graph((yield from self._answered(Call("GET", place_of(video_id)))))
            if isinstance(found, SceneGraph):
                return found
            if found.status == "cancelled":
                raise _cancelled(video_id)
            if progress is not None and found.progress is not None and found.progress != told:
                progress(told := found.progress)
            waited = time.monotonic() - began
            pause = min(max(_SHORTEST_PAUSE, _PAUSE_SHARE * waited), _LONGEST_PAUSE)
            if timeout is not None:
                if waited >= timeout:
                    raise TimeoutError(f"the graph of {video_id} is not there after {timeout:g} s; wait longer")
                pause = min(pause, timeout - waited)
            yield Pause(pause)

    def prompt(self, video_id: str, max_tokens: int | None) -> Exchange[str]:
        """The prompt of a finished graph."""
        params = {} if max_tokens is None else {"max_tokens": str(max_tokens)}
        response = yield from self._answered(Call("GET", f"{place_of(video_id)}/prompt", params))
        return response.text

    def search(self, query: str, limit: int, offset: int) -> Exchange[MomentPage]:
        """A page of the moments in which a query holds."""
        params = {"q": query, "limit": str(limit), "offset": str(offset)}
        response = yield from self._answered(Call("GET", "/search", params))
        return _read(lambda: MomentPage.model_validate_json(response.content), response)

    def delete(self, video_id: str) -> Exchange[None]:
        """Cancels a job, deletes a graph."""
        yield from self._answered(Call("DELETE", place_of(video_id)))

    def models(self) -> Exchange[list[ModelInfo]]:
        """The models that are offered."""
        response = yield from self._answered(Call("GET", "/models"))
        return _read(lambda: _MODELS.validate_json(response.content)["models"], response)

    def _answered(self, call: Call) -> Exchange[httpx.Response]:
        """Sends a call until it succeeds. Raises ProblemError or UnreachableError.

        Every call may be sent twice: a POST has an Idempotency-Key. Only a body that cannot be read again prevents it.
        """
        start = call.upload.tell() if call.upload is not None and call.upload.seekable() else None
        can_repeat = call.upload is None or start is not None
        deadline = 0.0
        broken = 0
        while True:
            outcome = yield call
            deadline = deadline or time.monotonic() + self._retry_seconds  # an upload may take longer than that
            if isinstance(outcome, httpx.Response):
                if outcome.is_success:
                    return outcome
                problem = problem_of(outcome)
                if problem.retry_after is None or not can_repeat or time.monotonic() + problem.retry_after > deadline:
                    raise problem
                pause, broken = problem.retry_after, 0
            else:
                assert outcome is not None, "a call has an outcome"
                broken += 1
                if broken == _BROKEN_CONNECTIONS or not can_repeat or time.monotonic() > deadline:
                    raise unreachable(outcome) from outcome
                pause = _RECONNECT_SECONDS
            yield Pause(pause)
            if call.upload is not None and start is not None:
                call.upload.seek(start)


class Following:
    """The events of a job, over as many connections as it takes.

    is_over: whether the last event has come.
    pause: seconds to wait before the next connection.
    """

    def __init__(self, video_id: str) -> None:
        self.path = f"{place_of(video_id)}/events"
        self.is_over = False
        self.pause = 0.0
        self._seen = ""
        self._broken = 0
        self._event: dict[str, str] = {}

    @property
    def headers(self) -> dict[str, str]:
        """Those of the next request; an event that has come is not sent again."""
        return {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._seen} if self._seen else {})

    def begin(self, response: httpx.Response) -> None:
        """Looks at the head of an answer; one that is no success must have been read. Raises ProblemError."""
        self._event = {}
        self.pause = _RECONNECT_SECONDS
        if response.status_code == httpx.codes.NO_CONTENT:
            self.is_over = True
        elif not response.is_success:
            error = problem_of(response)
            if error.retry_after is None or self._give_up():
                raise error
            self.pause = error.retry_after
        elif not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise _not_understood(response, "no stream of events")
        else:
            self._broken = 0  # proxies end streams that are silent for long, again and again

    def break_off(self, error: httpx.TransportError) -> None:
        """Notes that there is no connection any more. Raises UnreachableError where there was none several times."""
        self.pause = _RECONNECT_SECONDS
        if self._give_up():
            raise unreachable(error) from error

    def read(self, line: str) -> Job | None:
        """Takes a line of the stream; gives the job where an event ends with it."""
        if line:
            name, _, value = line.partition(":")
            self._event[name] = value.removeprefix(" ")  # a comment has no name
            return None
        event, self._event = self._event, {}
        if "data" not in event:
            return None
        self._seen = event.get("id", self._seen)
        job = Job.model_validate_json(event["data"])
        self.is_over = job.is_over
        return job

    def _give_up(self) -> bool:
        self._broken += 1
        return self._broken >= _BROKEN_CONNECTIONS


def problem_of(response: httpx.Response) -> ProblemError:
    """The error that a response tells of; also where it is not one of the service, but of a proxy before it."""
    after = response.headers.get("retry-after", "")
    retry_after = float(after) if after.isdecimal() else None
    try:
        return problem_error(response.json(), retry_after=retry_after)
    except (ValueError, KeyError, TypeError):
        answered = f"{response.status_code} {response.reason_phrase}".strip()
        document = {
            "status": response.status_code,
            "code": "unknown",
            "title": response.reason_phrase or "Not an answer of the service",
            "detail": f"{response.url} answered {answered}, without a problem document: is it the URL of a service?",
        }
        return problem_error(document, retry_after=retry_after)


def unreachable(error: httpx.TransportError) -> UnreachableError:
    """The error for a request that nothing came of."""
    reason = str(error) or type(error).__name__
    return UnreachableError(f"{error.request.method} {error.request.url} got no answer: {reason}")


def _job_or_graph(response: httpx.Response) -> Job | SceneGraph:
    def read() -> Job | SceneGraph:
        document = json.loads(response.content)
        if document["status"] == "succeeded":
            return SceneGraph.model_validate(document)
        return Job.model_validate(document)

    return _read(read, response)


def _read(read: Callable[[], T], response: httpx.Response) -> T:
    """Returns the content of a response. Raises ProblemError where it is not what a service sends."""
    try:
        return read()
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise _not_understood(response, error) from error


def _not_understood(response: httpx.Response, reason: object) -> ProblemError:
    document = {
        "status": response.status_code,
        "code": "unknown",
        "title": "The answer is not understood",
        "detail": f"{response.url} answered with something else than a service of this version sends: {reason}",
    }
    return problem_error(document)


def _cancelled(video_id: str) -> ProblemError:
    document = {
        "status": 410,
        "code": "cancelled",
        "title": "The job was cancelled",
        "detail": f"the job of {video_id} was cancelled before its graph was there; post the video again",
        "job_id": video_id,
    }
    return problem_error(document)

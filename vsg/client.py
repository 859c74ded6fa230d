"""A client of a service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, Unpack

import httpx

from models.graph.scene_graph import SceneGraph
from vsg.errors import VsgError
from vsg.exchanges import (
    BLOCK_BYTES,
    DEFAULT_RETRY_SECONDS,
    DEFAULT_TIMEOUT,
    Call,
    Exchange,
    Exchanges,
    Following,
    Outcome,
    Pause,
    http_options,
    opened,
    upload_headers,
)
from vsg.values import ClientOptions, Job, ModelInfo, MomentPage, Progress, VideoFile

T = TypeVar("T")


class Client:
    """A client of a service; `AsyncClient` has the same methods for asyncio.

        with Client("http://127.0.0.1:8000") as client:
            graph = client.graph("clip.mp4", fps=4)

    Every method raises a ProblemError with what the service says is wrong, and UnreachableError where it cannot be
    reached. A request that the service has no room for (429, 503) is sent again when it asks for that, as is one whose
    connection breaks: a key of its own (Idempotency-Key) keeps the service from doing it twice.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retry_seconds: float = DEFAULT_RETRY_SECONDS,
    ) -> None:
        """Connects with the first request.

        url: of the service, such as `http://127.0.0.1:8000`.
        key: where the service wants one.
        timeout: seconds that the service may be silent, not how long a graph may take.
        retry_seconds: for how long a request is sent again that the service has no room for; 0 for never.

        Raises ValueError where the URL is none.
        """
        self._http = httpx.Client(**http_options(url, key, timeout))
        self._exchanges = Exchanges(retry_seconds)

    def graph(
        self,
        video: str | VideoFile,
        *,
        timeout: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        **options: Unpack[ClientOptions],
    ) -> SceneGraph:
        """Posts a video and waits for its scene graph.

        video: a path, a URL that the service shall fetch, the bytes of a video file, or a binary file.
        timeout: most seconds to wait for the graph once the video is posted; None for as long as it takes.
        progress: called whenever more frames are done.
        options: those of the HTTP API.

        Raises TimeoutError too, and OSError where there is no such file. The job is cancelled where the waiting is
        given up, by the time limit, Ctrl-C or an exception of `progress`.
        """
        found = self._post(video, options)
        if isinstance(found, SceneGraph):
            return found
        try:
            return self.wait(found.id, timeout=timeout, progress=progress)
        except VsgError:
            raise
        except BaseException:
            with suppress(VsgError):
                self.delete(found.id)
            raise

    def submit(self, video: str | VideoFile, **options: Unpack[ClientOptions]) -> Job:
        """Posts a video, and does not wait; takes what `graph` takes. `wait` gives the graph."""
        found = self._post(video, options)
        return Job(id=found.id, status=found.status)

    def wait(
        self, video_id: str, *, timeout: float | None = None, progress: Callable[[Progress], None] | None = None
    ) -> SceneGraph:
        """Waits for the graph of a video that was posted; the job goes on whatever happens here.

        Raises TimeoutError, JobCancelledError, NotFoundError, or the problem that the job ended with.
        """
        return self._run(self._exchanges.finish(video_id, timeout, progress))

    def events(self, video_id: str) -> Iterator[Job]:
        """The job of a video whenever it changes, from how it is now to its end; a broken connection is taken up."""
        following = Following(video_id)
        while not following.is_over:
            try:
                with self._http.stream("GET", following.path, headers=following.headers) as response:
                    if not response.is_success:
                        response.read()
                    following.begin(response)
                    for line in response.iter_lines() if response.is_success else ():
                        if (job := following.read(line)) is not None:
                            yield job
            except httpx.TransportError as error:
                following.break_off(error)
            if not following.is_over:
                time.sleep(following.pause)

    def prompt(self, video_id: str, *, max_tokens: int | None = None) -> str:
        """The prompt of a finished graph; `max_tokens` says how long it may be (60 or more; 400)."""
        return self._run(self._exchanges.prompt(video_id, max_tokens))

    def search(self, query: str, *, limit: int = 20, offset: int = 0) -> MomentPage:
        """The moments of your videos in which a query holds, where the service keeps an archive; docs/search.md.

        limit: most moments of a page, up to 100.
        offset: moments to pass over; `next` of the page before.

        Raises QueryError, with the place in the query, and NotFoundError where there is no archive.
        """
        return self._run(self._exchanges.search(query, limit, offset))

    def delete(self, video_id: str) -> None:
        """Cancels the job of a video, and deletes its graph."""
        self._run(self._exchanges.delete(video_id))

    def models(self) -> list[ModelInfo]:
        """The models that the service offers, the default first."""
        return self._run(self._exchanges.models())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _post(self, video: str | VideoFile, options: ClientOptions) -> Job | SceneGraph:
        with opened(video) as file:
            return self._run(self._exchanges.post(str(video) if file is None else None, file, options))

    def _run(self, exchange: Exchange[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = exchange.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                outcome = None
            else:
                outcome = self._sent(step)

    def _sent(self, call: Call) -> Outcome:
        headers, content = dict(call.headers), None
        if call.upload is not None:
            headers |= upload_headers(call.upload)
            content = _blocks(call.upload)
        try:
            return self._http.request(
                call.method, call.path, params=call.params, headers=headers, content=content, json=call.json
            )
        except httpx.TransportError as error:
            return error


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block

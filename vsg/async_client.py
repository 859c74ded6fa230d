"""A client of a service, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
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


class AsyncClient:
    """A client of a service, with the methods of `Client`; they take, give and raise the same.

    async with AsyncClient("http://127.0.0.1:8000") as client:
        graph = await client.graph("clip.mp4", fps=4)
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        retry_seconds: float = DEFAULT_RETRY_SECONDS,
    ) -> None:
        """Takes what `Client` takes."""
        self._http = httpx.AsyncClient(**http_options(url, key, timeout))
        self._exchanges = Exchanges(retry_seconds)

    async def graph(
        self,
        video: str | VideoFile,
        *,
        timeout: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        **options: Unpack[ClientOptions],
    ) -> SceneGraph:
        """Posts a video and waits for its scene graph; the job is cancelled with the task that waits."""
        found = await self._post(video, options)
        if isinstance(found, SceneGraph):
            return found
        try:
            return await self.wait(found.id, timeout=timeout, progress=progress)
        except VsgError:
            raise
        except BaseException:
            with suppress(VsgError):
                await self.delete(found.id)
            raise

    async def submit(self, video: str | VideoFile, **options: Unpack[ClientOptions]) -> Job:
        """Posts a video, and does not wait; `wait` gives the graph."""
        found = await self._post(video, options)
        return Job(id=found.id, status=found.status)

    async def wait(
        self, video_id: str, *, timeout: float | None = None, progress: Callable[[Progress], None] | None = None
    ) -> SceneGraph:
        """Waits for the graph of a video that was posted; the job goes on whatever happens here."""
        return await self._run(self._exchanges.finish(video_id, timeout, progress))

    async def events(self, video_id: str) -> AsyncIterator[Job]:
        """The job of a video whenever it changes, from how it is now to its end."""
        following = Following(video_id)
        while not following.is_over:
            try:
                async with self._http.stream("GET", following.path, headers=following.headers) as response:
                    if not response.is_success:
                        await response.aread()
                    following.begin(response)
                    if response.is_success:
                        async for line in response.aiter_lines():
                            if (job := following.read(line)) is not None:
                                yield job
            except httpx.TransportError as error:
                following.break_off(error)
            if not following.is_over:
                await asyncio.sleep(following.pause)

    async def prompt(self, video_id: str, *, max_tokens: int | None = None) -> str:
        """The prompt of a finished graph."""
        return await self._run(self._exchanges.prompt(video_id, max_tokens))

    async def search(self, query: str, *, limit: int = 20, offset: int = 0) -> MomentPage:
        """The moments of your videos in which a query holds, where the service keeps an archive."""
        return await self._run(self._exchanges.search(query, limit, offset))

    async def delete(self, video_id: str) -> None:
        """Cancels the job of a video, and deletes its graph."""
        await self._run(self._exchanges.delete(video_id))

    async def models(self) -> list[ModelInfo]:
        """The models that the service offers, the default first."""
        return await self._run(self._exchanges.models())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _post(self, video: str | VideoFile, options: ClientOptions) -> Job | SceneGraph:
        with opened(video) as file:
            return await self._run(self._exchanges.post(str(video) if file is None else None, file, options))

    async def _run(self, exchange: Exchange[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = exchange.send(outcome)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._sent(step)

    async def _sent(self, call: Call) -> Outcome:
        headers, content = dict(call.headers), None
        if call.upload is not None:
            headers |= upload_headers(call.upload)
            content = _blocks(call.upload)
        try:
            return await self._http.request(
                call.method, call.path, params=call.params, headers=headers, content=content, json=call.json
            )
        except httpx.TransportError as error:
            return error


async def _blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(file.read, BLOCK_BYTES):
        yield block

"""Both clients with the same plain methods, so that one test drives them both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from models.graph.scene_graph import SceneGraph
from vsg import AsyncClient, Client, Job, ModelInfo, MomentPage


class Awaited:
    """An `AsyncClient` whose methods wait for the result."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient) -> None:
        self._run = runner.run
        self._client = client

    def graph(self, *arguments: Any, **options: Any) -> SceneGraph:
        return self._run(self._client.graph(*arguments, **options))

    def submit(self, *arguments: Any, **options: Any) -> Job:
        return self._run(self._client.submit(*arguments, **options))

    def wait(self, *arguments: Any, **options: Any) -> SceneGraph:
        return self._run(self._client.wait(*arguments, **options))

    def events(self, video_id: str) -> Iterator[Job]:
        async def all_events() -> list[Job]:
            return [job async for job in self._client.events(video_id)]

        return iter(self._run(all_events()))

    def prompt(self, *arguments: Any, **options: Any) -> str:
        return self._run(self._client.prompt(*arguments, **options))

    def search(self, *arguments: Any, **options: Any) -> MomentPage:
        return self._run(self._client.search(*arguments, **options))

    def delete(self, video_id: str) -> None:
        self._run(self._client.delete(video_id))

    def models(self) -> list[ModelInfo]:
        return self._run(self._client.models())

    def close(self) -> None:
        self._run(self._client.close())


Connect = Callable[..., Client | Awaited]


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest, no_proxy: None) -> Iterator[Connect]:
    """Connects to the service at a URL; takes what `Client` takes."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())

        def connected(*arguments: Any, **rest: Any) -> Client | Awaited:
            client: Client | Awaited = (
                Client(*arguments, **rest)
                if request.param == "sync"
                else Awaited(runner, AsyncClient(*arguments, **rest))
            )
            stack.callback(client.close)
            return client

        yield connected

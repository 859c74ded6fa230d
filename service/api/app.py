"""Builds the application."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import operations, videos
from service.api.problems import install_problem_handlers
from service.api.state import Service
from service.batching import load_engines
from service.decoding.spawning import SPAWNER
from service.jobs import Jobs
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.settings import Settings, bundle_folders
from service.storage import Storage
from service.webhooks import Webhooks


def create_app(settings: Settings, *, on_engine_death: Callable[[], None] = lambda: None) -> FastAPI:
    """The application, with its models loaded; queue, worker and storage start and end with its lifespan.

    on_engine_death  is called, from another thread, when an engine dies: the process should end and be started anew

    Raises NoModels, BundleError or EngineError when the models cannot be served.
    """
    pipeline = Pipeline(load_engines(bundle_folders(settings), settings), settings)
    metrics = Metrics()
    for engine in pipeline.models.values():
        engine.on_death = on_engine_death
        metrics.watch(engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(pipeline.close)
            SPAWNER.prepare()
            folder = settings.data or stack.enter_context(tempfile.TemporaryDirectory(prefix="vsg-"))
            storage = Storage(folder)
            jobs = await stack.enter_async_context(Jobs(pipeline, storage, settings, metrics))
            app.state.service = Service(settings, pipeline, storage, jobs, metrics, Webhooks(settings))
            yield

    app = FastAPI(
        title="Video scene graphs",
        summary="Post a video, get who does what with which thing, and when.",
        version="1",
        lifespan=lifespan,
    )
    app.include_router(videos.router)
    app.include_router(operations.router)
    install_problem_handlers(app)
    app.add_middleware(_CountRequests, metrics=metrics)
    return app


class _CountRequests:
    """Counts requests and their seconds by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500  # where the application raises, the layer outside of this one answers

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # The route's pattern, not the path: ids would make a series per video, and so would guessed paths.
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.request_seconds.labels(method, route).observe(time.perf_counter() - began)


_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

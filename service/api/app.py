"""Builds the application."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import keys_of
from service.api import events, operations, page, videos
from service.api.access import RequireKey, declare_keys
from service.api.docs import install_docs
from service.api.headers import SecurityHeaders
from service.api.limits import RateLimit
from service.api.problems import METHODS, install_problem_handlers
from service.api.state import Service
from service.captioning import Captioner, endpoint_of
from service.jobs import JobQueue, Jobs, JobWorker, open_pipeline
from service.metrics import Metrics
from service.settings import Settings
from service.storage import Storage
from service.webhooks import Webhooks


def create_app(settings: Settings, *, on_engine_death: Callable[[], None] = lambda: None) -> FastAPI:
    """The application; queue, storage and worker start and end with its lifespan.

    With a memory queue it has a worker, and the models are loaded here; with another queue the workers are processes of
    their own, started with `vsg worker`.

    on_engine_death  is called, from another thread, when an engine dies: the process should end and be started anew

    Raises SettingsError when other machines could reach it without a key, or a setting cannot be used; CaptionsMissing
    when captions are set but not installed; NoModels, BundleError or EngineError when the models cannot be served.
    """
    keys = keys_of(settings)
    rate_limit = RateLimit(settings.rate_limit, settings.queue_url) if settings.rate_limit else None
    endpoint = endpoint_of(settings)
    captioner = Captioner(endpoint) if endpoint else None
    metrics = Metrics()
    queue = JobQueue(settings)
    pipeline = open_pipeline(settings, metrics, on_engine_death) if queue.in_memory else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            folder = settings.data or stack.enter_context(tempfile.TemporaryDirectory(prefix="vsg-"))
            storage = Storage(folder)
            await stack.enter_async_context(queue)
            jobs = Jobs(queue, storage, settings, metrics)
            worker = None
            if pipeline is not None:
                worker = JobWorker(queue, pipeline, storage, settings, metrics, lost=jobs.lost)
                stack.callback(pipeline.close)
                await stack.enter_async_context(worker)
            if rate_limit is not None:
                stack.push_async_callback(rate_limit.close)
            if captioner is not None:
                await stack.enter_async_context(captioner)
            webhooks = Webhooks(settings)
            app.state.service = Service(settings, storage, jobs, worker, metrics, rate_limit, webhooks, captioner)
            yield

    app = FastAPI(
        title="Video scene graphs",
        summary="Post a video, get who does what with which thing, and when.",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # the framework's page would be loaded from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the redirect would repeat the host that the caller named, and an upload be sent twice
    )
    app.include_router(videos.router)
    app.include_router(events.router)
    app.include_router(operations.router)
    app.include_router(page.router)
    install_docs(app)
    install_problem_handlers(app)
    if keys is not None:
        declare_keys(app)
    # The last one added is the first that a request comes to.
    app.add_middleware(RequireKey, keys=keys)
    app.add_middleware(_CountRequests, metrics=metrics)
    app.add_middleware(SecurityHeaders)
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
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.request_seconds.labels(method, route).observe(time.perf_counter() - began)

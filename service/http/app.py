"""Builds the application."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from service.access import keys_of
from service.http import events, operations, page, videos
from service.http.access import RequireKey, declare_keys
from service.http.docs import install_docs
from service.http.headers import SecurityHeaders
from service.http.limits import RateLimit
from service.http.problems import install_problem_handlers
from service.http.state import Service
from service.http.watching import WatchRequests
from service.jobs import JobQueue, Jobs, JobWorker, open_pipeline
from service.metrics import Metrics
from service.prompt.captioner import Captioner, endpoint_of
from service.settings import Settings
from service.storage import Storage
from service.tracing import flush_traces


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
    queue = JobQueue(settings, metrics)
    pipeline = open_pipeline(settings, metrics, on_engine_death) if queue.in_memory else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            folder = settings.data or stack.enter_context(tempfile.TemporaryDirectory(prefix="vsg-"))
            storage = Storage(folder)
            # The web server ends the process by the signal that it was given, so nothing runs later than this.
            stack.push_async_callback(asyncio.to_thread, flush_traces)
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
            app.state.service = Service(settings, storage, queue, jobs, worker, metrics, rate_limit, captioner)
            yield

    app = FastAPI(
        title="Video scene graphs",
        summary="Post a video, get who does what with which thing, and when.",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # the framework's page would be loaded from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the redirect would repeat the host that the caller named, and an upload be sent twice
        telemetry={"tracing": False, "metrics": False, "logs": False},  # its spans carry queries, ours do not
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
    app.add_middleware(WatchRequests, metrics=metrics)
    app.add_middleware(SecurityHeaders)
    return app

"""Builds the applications: that of the API, and the small one of a worker in a fleet."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from service.http import operations, pages, streams, videos
from service.http.access import RateLimit, RequireKey
from service.http.conventions import AnswerHead, CheckHead, Compress, Prefix
from service.http.middleware import ErrorHandlers, SecurityHeaders, WatchRequests
from service.http.openapi import declare_keys
from service.http.operations import Health
from service.http.origins import AllowOrigins, GuardFromPages
from service.http.request import Service
from service.jobs import JobQueue, Jobs, JobWorker, ProcessLife, StorageHealth
from service.jobs.archiving import JobArchive
from service.keys import keys_of
from service.loading import open_pipeline
from service.metrics import Metrics
from service.prompt.captioner import Captioner, endpoint_of
from service.settings import Settings
from service.storage import Storage
from service.tracing import flush_traces
from service.video.processes import FORK_SERVER

_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
}  # the framework's spans carry queries


def create_app(settings: Settings, life: ProcessLife | None = None) -> FastAPI:
    """The API. Queue, storage and worker start and end with its lifespan.

    With a memory queue it has a worker, and the models are loaded here. With another queue the workers are processes of
    their own, started with `vsg worker`.

    life: of the process. It learns when an engine dies: the process should then end and start again.

    Raises SettingsError where other machines could reach it without a key, or a setting cannot be used; CaptionsMissing
    where captions are set but not installed; NoModels, BundleError or EngineError where the models cannot be served.
    """
    life = life or ProcessLife()
    keys = keys_of(settings)
    rate_limit = RateLimit(settings.rate_limit, settings.queue_url) if settings.rate_limit else None
    endpoint = endpoint_of(settings)
    captioner = Captioner(endpoint) if endpoint else None
    metrics = Metrics()
    queue = JobQueue(settings, metrics)
    pipeline = (
        open_pipeline(settings, on_batch=metrics.count_batch, on_engine_death=life.lose_engine)
        if queue.in_memory
        else None
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            folder = settings.data or stack.enter_context(tempfile.TemporaryDirectory(prefix="vsg-"))
            storage = Storage(str(folder))
            # The web server ends the process by the signal that it was given, so nothing runs later than this.
            stack.push_async_callback(asyncio.to_thread, flush_traces)
            await stack.enter_async_context(life)
            await stack.enter_async_context(queue)
            archive = JobArchive(settings.archive, storage)
            await asyncio.to_thread(archive.make)
            storage_health = StorageHealth(storage, queue, metrics, archive)
            await storage_health.measure()
            jobs = Jobs(queue, storage, settings, metrics, life, storage_health)
            metrics.process.labels("api").set(1)
            if pipeline is not None:
                metrics.process.labels("worker").set(1)
            if pipeline is None:
                app.state.health = Health(
                    lambda: queue.is_alive, jobs.check, [queue.measure, storage_health.measure, jobs.measure], metrics
                )
            else:
                worker = JobWorker(queue, pipeline, storage, settings, metrics, life, storage_health)
                stack.callback(pipeline.close)
                await stack.enter_async_context(worker)
                app.state.health = Health(
                    lambda: worker.is_alive,
                    worker.check,
                    [queue.measure, storage_health.measure, jobs.measure],
                    metrics,
                    FORK_SERVER.isolation_gaps,
                )
            if rate_limit is not None:
                stack.push_async_callback(rate_limit.close)
            if captioner is not None:
                await stack.enter_async_context(captioner)
            app.state.service = Service(
                settings, life, storage, jobs, metrics, queue.webhooks.check, rate_limit, captioner
            )
            yield

    app = FastAPI(
        title="Video scene graphs",
        summary="Post a video, get who does what with which thing, and when.",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # the framework's page would be loaded from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the redirect would repeat the host that the caller named, and an upload be sent twice
        servers=[{"url": settings.path_prefix}] if settings.path_prefix else None,
        root_path_in_servers=False,  # the document says it whoever asks
        telemetry=_NO_TELEMETRY,
    )
    for router in (videos.router, streams.router, operations.router, operations.health_router, pages.router):
        app.include_router(router)
    pages.install_docs(app)
    errors = ErrorHandlers(metrics)
    errors.install(app)
    if keys is not None:
        declare_keys(app)
    # The middleware that is added last comes first.
    app.add_middleware(Compress)
    app.add_middleware(AnswerHead)
    app.add_middleware(RequireKey, keys=keys, errors=errors)
    if keys is None:
        app.add_middleware(
            GuardFromPages,
            host=settings.host,
            allowed=settings.allowed_hosts,
            origins=settings.cors_origins,
            errors=errors,
        )
    if settings.cors_origins:
        app.add_middleware(AllowOrigins, origins=settings.cors_origins)
    app.add_middleware(CheckHead, errors=errors)
    app.add_middleware(WatchRequests, metrics=metrics)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Prefix, prefix=settings.path_prefix)
    return app


def create_worker_app(worker: JobWorker, queue: JobQueue, storage_health: StorageHealth, metrics: Metrics) -> FastAPI:
    """The app of a worker for those who supervise it: /health/live, /health/ready and /metrics."""
    app = FastAPI(title="A worker of video scene graphs", version="1", openapi_url=None, telemetry=_NO_TELEMETRY)
    app.state.health = Health(
        lambda: worker.is_alive,
        worker.check,
        [queue.measure, storage_health.measure],
        metrics,
        FORK_SERVER.isolation_gaps,
    )
    app.include_router(operations.health_router)
    errors = ErrorHandlers(metrics)
    errors.install(app)
    app.add_middleware(Compress)
    app.add_middleware(AnswerHead)
    app.add_middleware(CheckHead, errors=errors)
    return app

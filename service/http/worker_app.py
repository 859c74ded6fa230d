"""What a worker of a fleet answers over HTTP: how it is, and what it counts."""

from __future__ import annotations

from fastapi import FastAPI, Response

from service.errors import ServiceError, Unavailable
from service.http.problems import plain_problem
from service.jobs import JobQueue, JobWorker
from service.metrics import CONTENT_TYPE, Metrics


def create_worker_app(worker: JobWorker, queue: JobQueue, metrics: Metrics) -> FastAPI:
    """The application: /health/live, /health/ready and /metrics, for those who supervise the worker."""
    app = FastAPI(
        title="A worker of video scene graphs",
        version="1",
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )

    @app.get("/health/live")
    async def get_live() -> dict[str, str]:
        if not worker.is_alive:
            raise Unavailable("the worker has ended; restart it")
        return {"status": "live"}

    @app.get("/health/ready")
    async def get_ready() -> dict[str, str]:
        await worker.check()
        return {"status": "ready"}

    @app.get("/metrics")
    async def get_metrics() -> Response:
        await queue.measure()
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    app.add_exception_handler(ServiceError, plain_problem)
    return app

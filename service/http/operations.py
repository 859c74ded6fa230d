"""The routes for operators: models, health, metrics."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from service.errors import Unavailable
from service.http import documentation
from service.http.state import service_of
from service.jobs.catalog import ServedModel
from service.metrics import CONTENT_TYPE

router = APIRouter(tags=["operations"], responses=documentation.PROBLEM_RESPONSES)


@router.get("/models", summary="The models served here")
async def get_models(request: Request) -> dict[str, Sequence[ServedModel]]:
    """What can be asked for as the option `model`, the default first."""
    return {"models": await service_of(request).jobs.catalog.models()}


@router.get("/health/live", summary="Whether the process should be kept")
async def get_live(request: Request) -> dict[str, str]:
    """Answers 503 once the worker of this process has ended: only a restart brings it back."""
    service = service_of(request)
    if not (service.queue if service.worker is None else service.worker).is_alive:
        raise Unavailable("the worker has ended; restart the service")
    return {"status": "live"}


@router.get("/health/ready", summary="Whether requests should be sent here")
async def get_ready(request: Request) -> dict[str, str]:
    """Answers 503 when the queue does not answer, has no worker, or a job of this process does not move."""
    service = service_of(request)
    await (service.jobs if service.worker is None else service.worker).check()
    return {"status": "ready"}


@router.get("/metrics", summary="Metrics for Prometheus", **documentation.GET_METRICS)
async def get_metrics(request: Request) -> Response:
    """What docs/metrics.md lists; also while the queue does not answer."""
    service = service_of(request)
    await service.queue.measure()
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)

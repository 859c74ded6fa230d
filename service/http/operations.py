"""The routes for operators: models, health, metrics. A worker of a fleet has those of health and metrics too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Depends, Request, Response

from service.errors import StorageFull, Unavailable
from service.http import openapi
from service.http.request import known_parameters, service_of
from service.jobs.catalog import ServedModel
from service.metrics import CONTENT_TYPE, Metrics

router = APIRouter(tags=["operations"], responses=openapi.PROBLEM_RESPONSES, dependencies=[Depends(known_parameters)])
health_router = APIRouter(
    tags=["operations"], responses=openapi.PROBLEM_RESPONSES, dependencies=[Depends(known_parameters)]
)


@dataclass(frozen=True)
class Health:
    """The questions that a process answers about itself.

    is_alive: False when only a restart helps.
    check: raises Unavailable while the process should get no requests.
    measures: set those metrics that are known only when they are asked for.
    isolation_gaps: layers of isolation that the decoders of this process lack, with reasons; None without decoders.
    """

    is_alive: Callable[[], bool]
    check: Callable[[], Awaitable[None]]
    measures: Sequence[Callable[[], Awaitable[None]]]
    metrics: Metrics
    isolation_gaps: Callable[[], dict[str, str]] | None = None


def _health_of(request: Request) -> Health:
    health: Health = request.app.state.health
    return health


@router.get("/models", summary="The models served here")
async def get_models(request: Request) -> dict[str, Sequence[ServedModel]]:
    """The values of the option `model`, the default first."""
    return {"models": await service_of(request).jobs.catalog.models()}


@router.get("/page/limits.json", include_in_schema=False)
async def get_limits(request: Request) -> dict[str, float | bool]:
    """The operator's limits for one video, for the page to name, and whether there is an archive to search."""
    service = service_of(request)
    limits = service.settings.model_dump(include={"max_body_bytes", "max_fps", "max_frames"})
    return {**limits, "searches": service.search is not None}


@health_router.get("/health/live", summary="Whether the process should be kept")
async def get_live(request: Request) -> dict[str, str]:
    """Answers 503 once the worker of this process has ended: only a restart brings it back."""
    if not _health_of(request).is_alive():
        raise Unavailable("the worker has ended: restart the service")
    return {"status": "live"}


@health_router.get("/health/ready", summary="Whether requests should be sent here")
async def get_ready(request: Request) -> dict[str, str]:
    """Answers 503 when queue or storage do not answer, when no worker is there, or when a job does not move."""
    health = _health_of(request)
    try:
        await health.check()
    except StorageFull as error:  # a caller's post is answered with 507, a probe with 503
        raise Unavailable(error.detail) from error
    if health.isolation_gaps is None:
        return {"status": "ready"}
    gaps = await asyncio.to_thread(health.isolation_gaps)
    return {"status": "ready", "decoders": f"isolated without {_listed(gaps)}" if gaps else "isolated"}


def _listed(gaps: dict[str, str]) -> str:
    return ", ".join(f"{layer} ({reason})" for layer, reason in gaps.items())


@health_router.get("/metrics", summary="Metrics for Prometheus", **openapi.GET_METRICS)
async def get_metrics(request: Request) -> Response:
    """The metrics that docs/metrics.md lists, also while the queue does not answer."""
    health = _health_of(request)
    await asyncio.gather(*(measure() for measure in health.measures))
    return Response(health.metrics.exposition(), media_type=CONTENT_TYPE)

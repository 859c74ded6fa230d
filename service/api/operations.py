"""The routes for operators: models, health, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from models.scene_graph import ModelReference
from service.api.state import service_of
from service.batching import Engine
from service.errors import Unavailable
from service.metrics import CONTENT_TYPE
from service.pipeline import model_reference

router = APIRouter(tags=["operations"])


@router.get("/models", summary="The models served here")
async def get_models(request: Request) -> dict[str, list[dict[str, Any]]]:
    """What can be asked for as the option `model`, the default first."""
    engines = service_of(request).pipeline.models.values()
    return {"models": [_describe(engine, is_default=index == 0) for index, engine in enumerate(engines)]}


@router.get("/health/live", summary="Whether the process should be kept")
async def get_live(request: Request) -> dict[str, str]:
    """Answers 503 once the worker has ended: only a restart brings it back."""
    if not service_of(request).jobs.is_alive:
        raise Unavailable("the worker has ended; restart the service")
    return {"status": "live"}


@router.get("/health/ready", summary="Whether requests should be sent here")
async def get_ready(request: Request) -> dict[str, str]:
    """Answers 503 when the queue does not answer or a running job does not move."""
    await service_of(request).jobs.check()
    return {"status": "ready"}


@router.get("/metrics", summary="Metrics for Prometheus")
async def get_metrics(request: Request) -> Response:
    """Requests, jobs, stages, frames, queue depth and errors."""
    service = service_of(request)
    service.metrics.queue_depth.set(await service.jobs.waiting())
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)


def _describe(engine: Engine, *, is_default: bool) -> dict[str, Any]:
    manifest = engine.manifest
    reference: ModelReference = model_reference(engine)
    return {
        **reference.model_dump(),
        "default": is_default,
        "family": manifest.family,
        "description": manifest.description,
        "frame_size": manifest.frame_size.model_dump(),
        "clip_length": manifest.clip_length,
        "relation_scoring": manifest.relation_scoring,
        "thresholds": manifest.thresholds.model_dump(),
        "training": manifest.training.model_dump(),
    }

"""What the routes of one application share."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from service.jobs import Jobs
from service.metrics import Metrics
from service.pipeline import Pipeline
from service.settings import Settings
from service.storage import Storage
from service.webhooks import Webhooks


@dataclass(frozen=True)
class Service:
    """The parts of a running service; made when it starts."""

    settings: Settings
    pipeline: Pipeline
    storage: Storage
    jobs: Jobs
    metrics: Metrics
    webhooks: Webhooks


def service_of(request: Request) -> Service:
    """The service that answers this request."""
    service: Service = request.app.state.service
    return service

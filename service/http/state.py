"""What the routes of one application share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request

from service.jobs import JobQueue, Jobs, JobWorker
from service.metrics import Metrics
from service.prompt.captioner import Captioner
from service.settings import Settings
from service.storage import Storage

if TYPE_CHECKING:
    from service.http.limits import RateLimit


@dataclass(frozen=True)
class Service:
    """The parts of a running service; made when it starts.

    worker     None where workers are other processes
    captioner  None where the operator has set no endpoint of captions
    """

    settings: Settings
    storage: Storage
    queue: JobQueue
    jobs: Jobs
    worker: JobWorker | None
    metrics: Metrics
    rate_limit: RateLimit | None
    captioner: Captioner | None


def service_of(request: Request) -> Service:
    """The service that answers this request."""
    service: Service = request.app.state.service
    return service

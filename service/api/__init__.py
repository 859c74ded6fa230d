"""The HTTP interface."""

from service.api.app import create_app
from service.api.worker_app import create_worker_app

__all__ = ["create_app", "create_worker_app"]

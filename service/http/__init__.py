"""The HTTP interface."""

from service.http.app import create_app, create_worker_app

__all__ = ["create_app", "create_worker_app"]

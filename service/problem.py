"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import json
from typing import Any

from service.errors import InvalidOption, ServiceError

MEDIA_TYPE = "application/problem+json"


def problem(error: ServiceError, *, instance: str | None = None, job_id: str | None = None) -> dict[str, Any]:
    """The problem document of an error.

    instance: path of the request that failed.
    job_id: of the job that failed.
    """
    document: dict[str, Any] = {
        "type": f"urn:vsg:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if instance is not None:
        document["instance"] = instance
    if job_id is not None:
        document["job_id"] = job_id
    if isinstance(error, InvalidOption):
        document["option"] = error.option
    return document


def problem_bytes(error: ServiceError, *, instance: str | None = None, job_id: str | None = None) -> bytes:
    """The document as JSON."""
    return json.dumps(problem(error, instance=instance, job_id=job_id)).encode()

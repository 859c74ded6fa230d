"""Errors of running clips through a model."""

# ruff: noqa: N818 - the names say what is wrong; a suffix would add nothing

from __future__ import annotations

from service.errors import ServiceError


class JobCancelled(ServiceError):
    """The job was cancelled before it ended."""

    status = 410
    code = "cancelled"
    title = "The job was cancelled"


class ClipFailed(ServiceError):
    """A stage of the model fails on a clip, even when the clip is alone in its batch."""

    code = "model_failed"
    title = "The model failed on the video"


class EngineDied(ServiceError):
    """A thread that runs the model has died. No caller sees this: the job goes back to the queue."""

    status = 503
    code = "engine_died"
    title = "The engine has died"

"""Errors of jobs, their queue and their webhooks."""

# ruff: noqa: N818 - the names say what is wrong; a suffix would add nothing

from __future__ import annotations

from service.errors import RequestError, ServiceError


class NotFound(RequestError):
    """There is no such video or no such page."""

    status = 404
    code = "not_found"
    title = "Not found"


class IdempotencyMismatch(RequestError):
    """An `Idempotency-Key` was used before, with another video or other options."""

    status = 422
    code = "idempotency_mismatch"
    title = "The request differs from the first one of its key"


class TooManyRules(RequestError):
    """The caller has as many rules as it may have."""

    status = 409
    code = "too_many_rules"
    title = "There are too many rules"


class QueueFull(RequestError):
    """Too many jobs wait or run, of all callers or of this one; the same request can succeed later."""

    status = 429
    code = "queue_full"
    title = "The queue is full"


class TooManyVideos(RequestError):
    """Too many videos of one caller wait, run or are kept; the same request can succeed later."""

    status = 429
    code = "too_many_videos"
    title = "Too many videos are kept"


class WorkerCrashed(ServiceError):
    """The processes that worked on a video died, again and again."""

    code = "worker_crashed"
    title = "The video has ended its workers"


class JobUnreadable(ServiceError):
    """Another version of the service wrote the job, and no worker can read it."""

    code = "job_unreadable"
    title = "The job cannot be read"


class WebhookNotAllowed(RequestError):
    """The operator does not allow this webhook, or allows none."""

    status = 403
    code = "webhook_not_allowed"
    title = "The webhook is not allowed"


class WebhookFailed(ServiceError):
    """A webhook could not be delivered. No caller sees this: the delivery is logged and tried again.

    is_final: whether the receiver wants no more of them.
    """

    status = 502
    code = "webhook_failed"
    title = "The webhook could not be delivered"

    def __init__(self, detail: str, *, is_final: bool = False) -> None:
        super().__init__(detail)
        self.is_final = is_final

"""Errors of the modules of `service`. Each of its packages has its own in a module `errors`.

ServiceError            500  root of all of them; the class attributes are those of a problem document
  RequestError          4xx  the request itself cannot be served
    InvalidOption       422  an option has a value that cannot be used
      UnknownModel           no such model
    BodyTooLarge        413  the body, or the video at a URL, is over the operator's limit
    UrlNotAllowed       403  the operator does not allow the URL
    SearchOff           404  the operator keeps no archive to search
      SearchMissing          the libraries of searching are not installed
    UrlUnreachable      424  its server does not answer with a video's bytes
      UrlStalled             its server is too slow, or stopped sending
  EmptyUpload           400  the body or file has no bytes
  Unavailable           503  the service cannot take work now
    StorageUnavailable       the storage of uploads and results does not answer
      StorageFull       507  it has no room left
  JobCancelled          410  the job was cancelled before it ended
  ClipFailed            500  the model fails on the video
  EngineDied            503  a thread that runs the model has died
  SetupError            500  the service cannot start
    SettingsError            a setting is wrong
    NoModels                 there is no bundle to serve
    RenderError              a graph cannot be drawn on a video

`detail` is shown to the caller as it is: it names the thing, the value and the remedy, and never holds a path of the
server, a stack trace or the name of a library.
"""

# ruff: noqa: N818 - the names say what is wrong, as in `except QueueFull`; a suffix would add nothing

from __future__ import annotations

from typing import Any, ClassVar

PROBLEM_TYPE = "application/problem+json"  # media type of `ServiceError.problem`


class ServiceError(Exception):
    """Root of all errors that `service` raises on purpose; the class attributes are those of a problem document."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "The service failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def problem(self, *, instance: str | None = None, job_id: str | None = None) -> dict[str, Any]:
        """The error as an RFC 9457 problem document.

        instance: path of the request that failed.
        job_id: of the job that failed.
        """
        document = {
            "type": f"urn:vsg:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "instance": instance,
            "job_id": job_id,
        }
        return {name: value for name, value in document.items() if value is not None}


class RequestError(ServiceError):
    """The request itself cannot be served; its author can repair it."""

    status = 400
    code = "bad_request"
    title = "The request cannot be served"


class InvalidOption(RequestError):
    """An option has a value that cannot be used; `option` names it."""

    status = 422
    code = "invalid_option"
    title = "An option is invalid"

    def __init__(self, option: str, detail: str) -> None:
        super().__init__(detail)
        self.option = option

    def problem(self, *, instance: str | None = None, job_id: str | None = None) -> dict[str, Any]:
        """The problem document, with the option."""
        return super().problem(instance=instance, job_id=job_id) | {"option": self.option}


class UnknownModel(InvalidOption):
    """No model of that name is served here."""

    code = "unknown_model"
    title = "No such model"


class BodyTooLarge(RequestError):
    """The body of a request, or the video behind a URL, is over the operator's limit."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"


class UrlNotAllowed(RequestError):
    """The operator does not allow this URL, or any. The detail does not tell what a host resolves to."""

    status = 403
    code = "url_not_allowed"
    title = "The URL is not allowed"


class UrlUnreachable(RequestError):
    """The server of the URL takes no connection, breaks it, or answers with anything but a video's bytes."""

    status = 424
    code = "url_unreachable"
    title = "The video cannot be fetched"


class UrlStalled(UrlUnreachable):
    """The server of the URL stopped sending, or is slower than the operator waits."""

    code = "url_stalled"
    title = "Fetching the video took too long"


class SearchOff(RequestError):
    """The operator keeps no archive that could be searched."""

    status = 404
    code = "search_off"
    title = "This service searches nothing"


class SearchMissing(SearchOff):
    """The libraries of searching are not installed."""


class EmptyUpload(ServiceError):
    """The body or file has no bytes."""

    status = 400
    code = "empty_body"
    title = "The upload is empty"


class Unavailable(ServiceError):
    """The service cannot take work now."""

    status = 503
    code = "unavailable"
    title = "The service is not available"


class StorageUnavailable(Unavailable):
    """The storage of uploads and results does not answer, or is not the one that was there at the start."""

    code = "storage_unavailable"
    title = "The storage is not available"


class StorageElsewhere(StorageUnavailable):
    """The storage of this process is not that of the fleet: `VSG_DATA` differs, or a disk is not mounted."""


class StorageFull(StorageUnavailable):
    """The storage of uploads and results has no room left."""

    status = 507
    code = "storage_full"
    title = "The storage is full"


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


class SetupError(ServiceError):
    """The service cannot start; shown on the command line, never over HTTP."""


class SettingsError(SetupError):
    """A setting is wrong; the message names its key."""


class NoModels(SetupError):
    """There is no bundle to serve."""


class RenderError(SetupError):
    """A graph cannot be drawn on a video: it is no graph, or one of another video."""

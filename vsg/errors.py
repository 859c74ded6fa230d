"""Errors of the public interface.

VsgError
  OpenModelError          a bundle is not found, is damaged, or cannot run here
  UnreachableError        the service cannot be reached, or breaks off
  ProblemError            a problem document: what is wrong with a request, or with the service
    OptionError           an option has a value that cannot be used
    QueryError            a query cannot be understood
    UnusableVideoError    the video cannot be used
    AccessError           the key is missing or wrong, or the operator does not allow it
    NotFoundError         there is no such video, or not any more
    BusyError             too much to do, or not available now; try again later
    JobCancelledError     the job was cancelled before it ended

A model that runs in this process raises the same problems as a service does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class VsgError(Exception):
    """Root of all errors that `vsg` raises on purpose."""


class OpenModelError(VsgError):
    """A bundle is not found, is damaged, or cannot run here; the message says what to do."""


class UnreachableError(VsgError):
    """The service cannot be reached, or breaks off; `__cause__` is the error of httpx."""


class ProblemError(VsgError):
    """A problem document (RFC 9457): what is wrong with a request, or with the service.

    document: all of it.
    status: HTTP status code.
    code: stable name of the problem; docs/errors.md lists them.
    title: the kind of problem, in a few words.
    detail: what is wrong and what to do, for people.
    option: name of the option that is wrong, else None.
    job_id: id of the job that failed, else None.
    retry_after: seconds to wait before the same request is worth sending again, else None.
    """

    def __init__(self, document: Mapping[str, Any], *, retry_after: float | None = None) -> None:
        """Takes a document with `status`, `code`, `title` and `detail`."""
        super().__init__(document["detail"])
        self.document = dict(document)
        self.status: int = document["status"]
        self.code: str = document["code"]
        self.title: str = document["title"]
        self.detail: str = document["detail"]
        self.option: str | None = document.get("option")
        self.job_id: str | None = document.get("job_id")
        self.retry_after = retry_after


class OptionError(ProblemError):
    """An option has a value that cannot be used, or is none; `option` names it."""


class QueryError(ProblemError):
    """A query cannot be understood.

    line, column: place in the query, from 1.
    expected: words that are known or can stand at that place, the nearest first.
    """

    def __init__(self, document: Mapping[str, Any], *, retry_after: float | None = None) -> None:
        super().__init__(document, retry_after=retry_after)
        self.line: int = document.get("line", 1)
        self.column: int = document.get("column", 1)
        self.expected: tuple[str, ...] = tuple(document.get("expected", ()))


class UnusableVideoError(ProblemError):
    """The video cannot be used: it is none, is damaged, too large, or has nothing in the asked range."""


class AccessError(ProblemError):
    """The key is missing or wrong, or the operator does not allow the request."""


class NotFoundError(ProblemError):
    """There is no such video for this key, or not any more."""


class BusyError(ProblemError):
    """The service has too much to do, or is not available now; `retry_after` says when to try again."""


class JobCancelledError(ProblemError):
    """The job was cancelled before it ended: by a deletion, or because the service stopped."""


_BY_STATUS: Mapping[int, type[ProblemError]] = {
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    410: JobCancelledError,
    413: UnusableVideoError,
    429: BusyError,
    503: BusyError,
    507: BusyError,
}
_UNUSABLE_VIDEO = (
    "decode_memory",
    "decode_timeout",
    "empty_body",
    "no_video_stream",
    "range_outside_video",
    "unsupported_media",
    "video_encrypted",
    "video_too_large",
    "video_unreadable",
)


def problem_error(document: Mapping[str, Any], *, retry_after: float | None = None) -> ProblemError:
    """The error of the kind that a problem document tells of."""
    if "option" in document:
        kind: type[ProblemError] = OptionError
    elif document["code"] == "invalid_query":
        kind = QueryError
    elif document["code"] in _UNUSABLE_VIDEO:
        kind = UnusableVideoError
    else:
        kind = _BY_STATUS.get(document["status"], ProblemError)
    return kind(document, retry_after=retry_after)

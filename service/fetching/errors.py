"""Errors of fetching a video from a URL.

RequestError            4xx  (in `service.errors`)
  UrlNotAllowed         403  the operator does not allow the URL
  UrlUnreachable        424  the server does not answer with a video's bytes
    UrlStalled               the server is too slow, or stopped sending

A video that is over the operator's limit is `service.errors.BodyTooLarge`.
"""

# ruff: noqa: N818 - the names say what is wrong; a suffix would add nothing

from __future__ import annotations

from service.errors import RequestError


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

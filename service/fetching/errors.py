"""Errors of fetching a video from a URL."""

# ruff: noqa: N818 - the names say what is wrong; a suffix would add nothing

from __future__ import annotations

from service.errors import RequestError


class UrlNotAllowed(RequestError):
    """The operator does not allow that URL, or none at all; the words do not tell what a host resolves to."""

    status = 403
    code = "url_not_allowed"
    title = "The URL is not allowed"


class UrlUnreachable(RequestError):
    """The URL's server takes no connection, breaks it, or answers with something else than a video's bytes."""

    status = 424
    code = "url_unreachable"
    title = "The video cannot be fetched"


class UrlStalled(UrlUnreachable):
    """The URL's server has stopped sending, or is slower than the operator waits."""

    code = "url_stalled"
    title = "Fetching the video took too long"


class BodyTooLarge(RequestError):
    """The body is over the operator's limit."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"

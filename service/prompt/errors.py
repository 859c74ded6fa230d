"""Errors of captions."""

# ruff: noqa: N818 - the names say what is wrong; a suffix would add nothing

from __future__ import annotations

from service.errors import ServiceError, SetupError


class CaptionFailed(ServiceError):
    """The endpoint gave no caption, or only a part of one.

    `detail` is for every caller; `str` also has the endpoint's own words, for a terminal or a log.
    """

    status = 502
    code = "caption_failed"
    title = "No caption could be made"

    def __init__(self, detail: str, reason: str = "") -> None:
        super().__init__(detail)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.detail} ({self.reason})" if self.reason else self.detail


class CaptionRefused(CaptionFailed):
    """The endpoint refuses the key, the model or the request: the settings are wrong."""

    code = "caption_refused"
    title = "The caption endpoint refuses the request"


class CaptionTooLong(CaptionFailed):
    """The prompt, with its key frames, is too long for the endpoint's model."""

    status = 422
    code = "caption_too_long"
    title = "The prompt is too long for the model"


class CaptionBusy(CaptionFailed):
    """The endpoint is busy; the same request can succeed after `retry_after` seconds."""

    status = 503
    code = "caption_busy"
    title = "The caption endpoint is busy"

    def __init__(self, detail: str, reason: str, *, retry_after: int) -> None:
        super().__init__(detail, reason)
        self.retry_after = retry_after


class CaptionTimeout(CaptionFailed):
    """The caption was not complete within the time limit."""

    status = 504
    code = "caption_timeout"
    title = "The caption took too long"


class CaptionsMissing(SetupError):
    """A package that captions need is not installed."""

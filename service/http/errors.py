"""Errors of requests."""

# ruff: noqa: N818 - the names say what is wrong; a suffix would add nothing

from __future__ import annotations

from service.errors import RequestError


class NotHttp(RequestError):
    """The bytes on the connection are not an HTTP request."""

    code = "not_http"
    title = "The request is not HTTP"


class MalformedHead(RequestError):
    """The header Host is missing or malformed, or a header is given twice that may come once."""

    code = "malformed_head"
    title = "The headers are malformed"


class MissingVideo(RequestError):
    """The form has no field `video`, or the JSON no `url`."""

    code = "missing_video"
    title = "The request has no video"


class MalformedUpload(RequestError):
    """The body is cut short, or is not the form or the JSON that its Content-Type claims."""

    code = "malformed_upload"
    title = "The upload is malformed"


class KeyMissing(RequestError):
    """The service needs a key and the request has none."""

    status = 401
    code = "key_missing"
    title = "A key is needed"


class KeyWrong(RequestError):
    """The key of the request is not known, or no longer valid."""

    status = 401
    code = "key_wrong"
    title = "The key is not known"


class HostNotAllowed(RequestError):
    """A service without keys is called by a name that is not its own."""

    status = 403
    code = "host_not_allowed"
    title = "The host is not allowed"


class OriginNotAllowed(RequestError):
    """A web page of another origin, which the operator has not named, uses a service without keys."""

    status = 403
    code = "origin_not_allowed"
    title = "The origin is not allowed"


class CaptionsOff(RequestError):
    """The operator has set no endpoint for captions."""

    status = 404
    code = "captions_off"
    title = "This service writes no captions"


class FrameNotKept(RequestError):
    """The frame is not kept as a picture, or the graph has no such frame."""

    status = 404
    code = "frame_not_kept"
    title = "The frame is not kept"


class MethodNotAllowed(RequestError):
    """The path exists, but not for this method."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"


class UploadStalled(RequestError):
    """No byte of the body has arrived, or it has not ended, for longer than the operator allows."""

    status = 408
    code = "upload_stalled"
    title = "The upload has stalled"


class NotReady(RequestError):
    """The graph is not made yet, and neither is what is asked of it."""

    status = 409
    code = "not_ready"
    title = "The graph is not ready"


class UnsupportedContentType(RequestError):
    """The Content-Type is that of something else than a form, JSON or a video."""

    status = 415
    code = "unsupported_content_type"
    title = "The content type is not supported"


class RateLimited(RequestError):
    """The caller sends too many requests.

    retry_after: seconds after which the same request can succeed.
    """

    status = 429
    code = "rate_limited"
    title = "Too many requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class HeadTooLarge(RequestError):
    """The URL and headers have too many bytes."""

    status = 431
    code = "head_too_large"
    title = "The head of the request is too large"

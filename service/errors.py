"""Errors of the service: what a caller can do something about, each with the HTTP status and code it is answered with.

ServiceError
  EmptyUpload           400  the body or file has no bytes
  UnsupportedMedia      415  the bytes are not a video container
  VideoError            422  a video container that no frames can be taken from
    NoVideoStream            it has no video stream
    VideoUnreadable          not one frame of it decodes
    VideoTooLarge            its frames have too many pixels
    DecodeTimeout            decoding took longer than allowed
    DecodeMemory             decoding took more memory than allowed
    RangeOutsideVideo        the asked range begins after its end
  DecoderUnavailable    500  the decoder process does not start: the installation is broken
  RequestError          4xx  the request itself cannot be served
    NotHttp             400  what was sent is not HTTP
    MissingVideo        400  a form without the field `video`, or JSON without `url`
    MalformedUpload     400  a body that is cut short or is not the form or the JSON it claims to be
    KeyMissing          401  the service wants a key and the request has none
    KeyWrong            401  the key of the request is not known
    UrlNotAllowed       403  the operator does not allow that URL, or none at all
    WebhookNotAllowed   403  the operator does not allow that webhook, or none at all
    NotFound            404  no such video, or no such page
    CaptionsOff         404  the operator has set no endpoint of captions
    MethodNotAllowed    405  the page exists, but not for this method
    UploadStalled       408  no byte of the body arrives any more
    NotReady            409  asked for a part of a graph that is not made yet
    BodyTooLarge        413  the body is over the operator's limit
    UnsupportedContentType 415  the Content-Type is neither a form, nor video, nor bytes
    IdempotencyMismatch 422  the Idempotency-Key of a request that asked for something else
    InvalidOption       422  an option has a value that cannot be used
      UnknownModel           no such model
    UrlUnreachable      424  the URL's server did not answer with a video
      UrlStalled             it stopped sending, or was too slow
    QueueFull           429  too many jobs wait already
    RateLimited         429  the caller sends too many requests
    HeadTooLarge        431  the URL and headers are over the limit
  JobCancelled          410  the job was cancelled before it ended
  ClipFailed            500  the model failed on the video
  WorkerCrashed         500  the job has taken several workers with it
  WebhookFailed         502  a webhook could not be delivered; nobody is answered with this
  CaptionFailed         502  the endpoint of captions gave none
    CaptionRefused           it does not take the key, the model or the request
    CaptionTooLong      422  the prompt is longer than its model takes
    CaptionBusy         503  it has too much to do
    CaptionTimeout      504  it was too slow
  EngineDied            503  an engine thread is gone; the job goes back to the queue
  Unavailable           503  the service cannot take work now
  SetupError            500  the service cannot start
    SettingsError            a setting is wrong
    NoModels                 there is no bundle to serve
    BenchError               a measurement cannot be made
    RenderError              a graph cannot be drawn on a video
    CaptionsMissing          the extra for captions is not installed

`detail` is shown to the caller as it is: it names the thing, the value and the remedy, and never holds a path of the
server, a stack trace or the name of a library.
"""

# ruff: noqa: N818 - the names say what is wrong, as in `except QueueFull`; a suffix would add nothing

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """Root of all errors that `service` raises on purpose; the class attributes are those of a problem document."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "The service failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class EmptyUpload(ServiceError):
    """The body or file has no bytes."""

    status = 400
    code = "empty_body"
    title = "The upload is empty"


class UnsupportedMedia(ServiceError):
    """The bytes are not a video container; the detail says what they look like."""

    status = 415
    code = "unsupported_media"
    title = "The upload is not a video"


class VideoError(ServiceError):
    """A video container that no frames can be taken from as asked."""

    status = 422
    code = "video_unreadable"
    title = "The video cannot be used"


class NoVideoStream(VideoError):
    """The container has no video stream, such as an MP4 that holds only audio."""

    code = "no_video_stream"
    title = "The upload has no video stream"


class VideoUnreadable(VideoError):
    """Not one frame could be decoded, or the decoder crashed."""

    code = "video_unreadable"
    title = "The video cannot be decoded"


class VideoTooLarge(VideoError):
    """The frames of the video have more pixels than the service decodes."""

    code = "video_too_large"
    title = "The frames of the video are too large"


class DecodeTimeout(VideoError):
    """Decoding took longer, by the clock or by processor time, than the service allows."""

    code = "decode_timeout"
    title = "Decoding the video took too long"


class DecodeMemory(VideoError):
    """Decoding took more memory than the service allows."""

    code = "decode_memory"
    title = "Decoding the video took too much memory"


class RangeOutsideVideo(VideoError):
    """The asked range begins after the end of the video."""

    code = "range_outside_video"
    title = "The asked range is outside the video"


class DecoderUnavailable(ServiceError):
    """The decoder process does not start; nothing is wrong with the upload."""

    code = "decoder_unavailable"
    title = "The video decoder does not start"


class RequestError(ServiceError):
    """The request itself cannot be served; its author can repair it."""

    status = 400
    code = "bad_request"
    title = "The request cannot be served"


class NotHttp(RequestError):
    """What was sent is not a request of HTTP."""

    code = "not_http"
    title = "The request is not HTTP"


class MissingVideo(RequestError):
    """The form has no field `video`, or the JSON no `url`."""

    code = "missing_video"
    title = "The request has no video"


class MalformedUpload(RequestError):
    """The body is cut short or is not the multipart form or the JSON that its Content-Type claims."""

    code = "malformed_upload"
    title = "The upload is malformed"


class KeyMissing(RequestError):
    """The service wants a key and the request has none."""

    status = 401
    code = "key_missing"
    title = "A key is needed"


class KeyWrong(RequestError):
    """The key of the request is not known, or not any more."""

    status = 401
    code = "key_wrong"
    title = "The key is not known"


class UrlNotAllowed(RequestError):
    """The operator does not allow that URL, or none at all; the words do not tell what a host resolves to."""

    status = 403
    code = "url_not_allowed"
    title = "The URL is not allowed"


class WebhookNotAllowed(RequestError):
    """The operator does not allow that webhook, or none at all."""

    status = 403
    code = "webhook_not_allowed"
    title = "The webhook is not allowed"


class NotFound(RequestError):
    """No such video, or no such page."""

    status = 404
    code = "not_found"
    title = "Not found"


class CaptionsOff(RequestError):
    """The operator has set no endpoint of captions."""

    status = 404
    code = "captions_off"
    title = "This service writes no captions"


class MethodNotAllowed(RequestError):
    """The page exists, but not for this method."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"


class UploadStalled(RequestError):
    """No byte of the body has arrived for longer than the operator waits."""

    status = 408
    code = "upload_stalled"
    title = "The upload has stalled"


class NotReady(RequestError):
    """A part of a graph was asked for that is not made yet."""

    status = 409
    code = "not_ready"
    title = "The graph is not ready"


class BodyTooLarge(RequestError):
    """The body is over the operator's limit."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"


class UnsupportedContentType(RequestError):
    """The Content-Type is neither a multipart form, nor a video type, nor plain bytes."""

    status = 415
    code = "unsupported_content_type"
    title = "The content type is not supported"


class IdempotencyMismatch(RequestError):
    """An `Idempotency-Key` that came before, with another video or other options."""

    status = 422
    code = "idempotency_mismatch"
    title = "The request differs from the first one of its key"


class InvalidOption(RequestError):
    """An option has a value that cannot be used; `option` names it."""

    status = 422
    code = "invalid_option"
    title = "An option is invalid"

    def __init__(self, option: str, detail: str) -> None:
        super().__init__(detail)
        self.option = option


class UnknownModel(InvalidOption):
    """No model of that name is served here."""

    code = "unknown_model"
    title = "No such model"


class UrlUnreachable(RequestError):
    """The URL's server takes no connection, breaks it, or answers with something else than a video's bytes."""

    status = 424
    code = "url_unreachable"
    title = "The video cannot be fetched"


class UrlStalled(UrlUnreachable):
    """The URL's server has stopped sending, or is slower than the operator waits."""

    code = "url_stalled"
    title = "Fetching the video took too long"


class QueueFull(RequestError):
    """Too many jobs wait already; the same request can succeed later."""

    status = 429
    code = "queue_full"
    title = "The queue is full"


class RateLimited(RequestError):
    """The caller sends too many requests; the same one can succeed after `retry_after` seconds."""

    status = 429
    code = "rate_limited"
    title = "Too many requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class HeadTooLarge(RequestError):
    """The URL and headers have more bytes than any client needs."""

    status = 431
    code = "head_too_large"
    title = "The head of the request is too large"


class JobCancelled(ServiceError):
    """The job was cancelled before it ended."""

    status = 410
    code = "cancelled"
    title = "The job was cancelled"


class ClipFailed(ServiceError):
    """A stage of the model failed on a clip, alone in its batch as well."""

    code = "model_failed"
    title = "The model failed on the video"


class WorkerCrashed(ServiceError):
    """The process that made the graph ended without a word, again and again."""

    code = "worker_crashed"
    title = "The video has ended its workers"


class WebhookFailed(ServiceError):
    """A webhook could not be delivered; `is_final` says that the receiver wants no more of them.

    No caller is answered with this: it is tried again, and logged.
    """

    status = 502
    code = "webhook_failed"
    title = "The webhook could not be delivered"

    def __init__(self, detail: str, *, is_final: bool = False) -> None:
        super().__init__(detail)
        self.is_final = is_final


class CaptionFailed(ServiceError):
    """The endpoint of captions gave none, or only a part of one.

    `detail` is for every caller; `str` also has the endpoint's own words, for a terminal or a log.
    """

    status = 502
    code = "caption_failed"
    title = "The caption could not be had"

    def __init__(self, detail: str, reason: str = "") -> None:
        super().__init__(detail)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.detail} ({self.reason})" if self.reason else self.detail


class CaptionRefused(CaptionFailed):
    """The endpoint does not take the key, the model or the request: its settings are wrong."""

    code = "caption_refused"
    title = "The caption endpoint refuses"


class CaptionTooLong(CaptionFailed):
    """The prompt, with its key frames, is longer than the endpoint's model takes."""

    status = 422
    code = "caption_too_long"
    title = "The prompt is too long for the model"


class CaptionBusy(CaptionFailed):
    """The endpoint has too much to do; the same request can succeed after `retry_after` seconds."""

    status = 503
    code = "caption_busy"
    title = "The caption endpoint is busy"

    def __init__(self, detail: str, reason: str, *, retry_after: int) -> None:
        super().__init__(detail, reason)
        self.retry_after = retry_after


class CaptionTimeout(CaptionFailed):
    """The caption was not complete in the time that it may take."""

    status = 504
    code = "caption_timeout"
    title = "The caption took too long"


class EngineDied(ServiceError):
    """A thread of the engine is gone. No job is answered with this: it goes back to the queue."""

    status = 503
    code = "engine_died"
    title = "The engine has died"


class Unavailable(ServiceError):
    """The service cannot take work now."""

    status = 503
    code = "unavailable"
    title = "The service is not available"


class SetupError(ServiceError):
    """The service cannot start; shown on the command line, never over HTTP."""


class SettingsError(SetupError):
    """A setting is wrong; the message names its key."""


class NoModels(SetupError):
    """There is no bundle to serve."""


class BenchError(SetupError):
    """A measurement cannot be made."""


class RenderError(SetupError):
    """A graph cannot be drawn on a video: it is none, or that of another video."""


class CaptionsMissing(SetupError):
    """What captions need is not installed."""

"""Errors of reading a video."""

# ruff: noqa: N818 - the names say what is wrong; a suffix would add nothing

from __future__ import annotations

from service.errors import ServiceError


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

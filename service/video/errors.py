"""Errors of reading a video.

ServiceError              500
  UnsupportedMedia        415  the bytes are not a video container
  VideoError              422  no frames can be taken from the container as asked
    NoVideoStream              the container has no video stream
    VideoEncrypted             the video stream is encrypted
    VideoUnreadable            no frame can be decoded, or the decoder crashed
    VideoTooLarge              the frames have too many pixels
    DecodeTimeout              decoding took too long
    DecodeMemory               decoding needs too much memory
    RangeOutsideVideo          the range begins after the end of the video
  DecoderUnavailable      500  the decoder process does not start

An upload without bytes is `service.errors.EmptyUpload`.
"""

# ruff: noqa: N818 - the names say what is wrong; a suffix would add nothing

from __future__ import annotations

from service.errors import ServiceError


class UnsupportedMedia(ServiceError):
    """The bytes are not a video container; the detail says what they look like."""

    status = 415
    code = "unsupported_media"
    title = "The upload is not a video"


class VideoError(ServiceError):
    """No frames can be taken from the video container as asked."""

    status = 422
    code = "video_unreadable"
    title = "The video cannot be used"


class NoVideoStream(VideoError):
    """The container has no video stream, such as an MP4 with sound only."""

    code = "no_video_stream"
    title = "The upload has no video stream"


class VideoEncrypted(VideoError):
    """The video stream is encrypted, as a shop or a broadcaster protects it."""

    code = "video_encrypted"
    title = "The video is encrypted"


class VideoUnreadable(VideoError):
    """Not one frame can be decoded, or the decoder crashed."""

    code = "video_unreadable"
    title = "The video cannot be decoded"


class VideoTooLarge(VideoError):
    """The frames of the video have more pixels than the service decodes."""

    code = "video_too_large"
    title = "The frames of the video are too large"


class DecodeTimeout(VideoError):
    """Decoding took longer than the service allows, by the clock or in processor time."""

    code = "decode_timeout"
    title = "Decoding the video took too long"


class DecodeMemory(VideoError):
    """Decoding needs more memory than the service allows."""

    code = "decode_memory"
    title = "Decoding the video took too much memory"


class RangeOutsideVideo(VideoError):
    """The range that was asked for begins after the end of the video."""

    code = "range_outside_video"
    title = "The asked range is outside the video"


class DecoderUnavailable(ServiceError):
    """The decoder process does not start. Nothing is wrong with the upload."""

    code = "decoder_unavailable"
    title = "The video decoder does not start"

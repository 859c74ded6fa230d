"""Examines a video file with PyAV before any decoder is trusted with it. Runs in the decoder process."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from service.video.containers import Container
from service.video.errors import NoVideoStream, UnsupportedMedia, VideoTooLarge, VideoUnreadable
from service.video.sampling import VideoInfo
from service.video.wire import Request

DEFAULT_FRAME_RATE = 25.0  # for videos that say nothing about their rate, as some GIF and AVI files do
MAXIMUM_FRAME_RATE = 1000.0
UNREADABLE = "not one frame of the video can be decoded; the file may be damaged: encode it again as H.264 in MP4"

_H264_SLICE, _H264_IDR = 1, 5
_HEVC_LAST_SLICE = 31
_HEVC_REFRESHES = range(16, 22)  # BLA, IDR and CRA pictures
_MPEG4_PICTURE = b"\x00\x00\x01\xb6"
# The decoders of these answer a frame whose reference is missing with an error: the container's mark can be trusted.
_REFUSE_WITHOUT_REFERENCE = {"vp8", "vp9", "av1"}


@dataclass(frozen=True)
class Media:
    """Describes a video file after one pass over its packets, of which only the first frame is decoded.

    info: what callers are told.
    times: (n,) float64, presentation times of the packets in seconds, sorted, the first one 0.
    stamps: (n,) int64, the same times as the packets state them, in units of the stream.
    beginnings: (k,) int64, those of the stamps with which decoding may begin (see `begins_afresh`).
    origin: time of the first frame in the file, in seconds.
    end: time when the last frame goes off display, in seconds after the first frame.
    listed: exactly one of `times` belongs to every frame.
    regular: decord's frame numbers are right.
        The file is listed, decoding may begin at every key frame by its time, and the stream is the default one.
    cut_short: the file ends before the duration that it declares.
    declared_duration: seconds, None where the file declares none.
    stream: index of the video stream.
    streams: number of video streams.
    """

    info: VideoInfo
    times: NDArray[np.float64]
    stamps: NDArray[np.int64]
    beginnings: NDArray[np.int64]
    origin: float
    end: float
    listed: bool
    regular: bool
    cut_short: bool
    declared_duration: float | None
    stream: int
    streams: int


@contextmanager
def opened(request: Request) -> Iterator[tuple[Any, Any]]:
    """Opens the file: gives the PyAV container and the video stream that a player takes by default.

    Raises VideoUnreadable, NoVideoStream and VideoTooLarge.
    """
    try:
        # The demuxer is fixed: PyAV would also choose those of playlists, which open other files.
        container = av.open(
            request.path,
            format=request.container.value,
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (av.FFmpegError, UnicodeError) as error:
        raise_if_out_of_memory(error)
        raise VideoUnreadable(
            f"the {request.container.name} headers of the video cannot be read; the upload may be incomplete: "
            "upload it again"
        ) from error
    with container:
        yield container, _video_stream(container, request)


def _video_stream(container: Any, request: Request) -> Any:
    # For a demuxer the picture that belongs to a song is a video stream.
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise NoVideoStream("the upload has no video stream, only sound or other data: send a video")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    codec = stream.codec_context
    if codec is None:
        raise VideoUnreadable("the codec of the video is not supported: encode it as H.264 in MP4")
    if codec.width * codec.height > request.limits.max_pixels:
        raise VideoTooLarge(
            f"the frames have {codec.width}x{codec.height} pixels; "
            f"at most {request.limits.max_pixels} pixels are decoded: scale the video down"
        )
    # The decoder has to know too: the stream may hold larger frames than its container declares.
    codec.options = {"max_pixels": str(request.limits.max_pixels)}
    codec.thread_type = "AUTO"
    codec.thread_count = request.limits.threads
    return stream


def raise_if_out_of_memory(error: Exception) -> None:
    """Raises MemoryError where a library's error means that."""
    if getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError from error


def examine(request: Request) -> Media:
    """Reads the packets of the file, and decodes its first frame, which tells the rotation.

    Raises VideoUnreadable, NoVideoStream and VideoTooLarge. Raises UnsupportedMedia for a GIF that does not move.
    """
    with opened(request) as (container, stream):
        packets = _Packets(container, stream)
        first = packets.first_frame
        declared = container.duration / av.time_base if container.duration and container.duration > 0 else None
        streams = len(container.streams.video)
        rate = packets.frame_rate(_sane_rate(stream.average_rate) or _sane_rate(stream.guessed_rate))
        codec = stream.codec_context.codec.canonical_name
        is_default = stream == container.streams.best("video")
        index = stream.index
    if first is None:
        raise VideoUnreadable(UNREADABLE)
    width, height = first.width, first.height
    if first.rotation % 180:
        width, height = height, width
    if request.container is Container.GIF and len(packets.times) == 1:
        raise UnsupportedMedia("the upload is a GIF image that does not move: send a video")
    interval = 1.0 / (rate or DEFAULT_FRAME_RATE)
    end = packets.video_end(interval)
    # The declared duration is that of the longest stream, sound included, so it is compared with all packets.
    cut_short = packets.broken or (declared is not None and packets.end < declared - max(0.5, 2 * interval))
    # An interlaced frame may be stored as two packets, one for each field.
    listed = packets.listed and not first.interlaced_frame
    return Media(
        info=VideoInfo(width=width, height=height, duration=end or declared, frame_rate=rate, codec=codec),
        times=packets.times,
        stamps=packets.stamps,
        beginnings=packets.beginnings,
        origin=packets.origin,
        end=end,
        listed=listed,
        regular=listed and packets.closed and is_default,
        cut_short=cut_short,
        declared_duration=declared,
        stream=index,
        streams=streams,
    )


def _first_frame(stream: Any, packet: Any) -> Any:
    """Returns a frame that comes out when the packet goes in, None where none does. The packet is None at the end."""
    try:
        return next(iter(stream.codec_context.decode(packet)), None)
    except av.FFmpegError as error:
        raise_if_out_of_memory(error)
        return None  # one of the other packets may decode


def _sane_rate(rate: Any) -> float | None:
    return float(rate) if rate is not None and 0 < rate <= MAXIMUM_FRAME_RATE else None


class _Packets:
    """Reads all packets of a file: their times, and how far these can be trusted.

    first_frame: PyAV frame, None where nothing can be decoded.
    broken: the file ends within a packet.
    end: end of the last packet of any stream, in seconds after the start that the container declares.
    stamps, times, origin, beginnings, listed: as in Media.
    closed: no frame is stored after a key frame and shown before it.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        presented: list[int] = []
        keys: list[int] = []
        fresh: list[int] = []
        durations = [0]
        codec, extradata = stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
        self.first_frame: Any = None
        self.broken = False
        self.end = 0.0
        listed = True
        try:
            for packet in container.demux():
                if packet.stream == stream and self.first_frame is None:
                    self.first_frame = _first_frame(stream, packet)
                if packet.dts is None and packet.pts is None and packet.size == 0:
                    continue  # the packet that flushes the decoder at the end
                moment = packet.pts if packet.pts is not None else packet.dts
                if moment is not None:
                    self.end = max(self.end, float((moment + (packet.duration or 0)) * packet.time_base))
                if packet.stream != stream:
                    continue
                # A file that was cut off ends with part of a packet. Any other damaged packet was lost on the way.
                self.broken = packet.is_corrupt
                listed &= not packet.is_corrupt
                if packet.pts is None:
                    listed = False
                elif packet.is_discard:
                    listed = False  # an edit list removes it, but some readers still count it
                else:
                    if packet.is_keyframe:
                        keys.append(len(presented))
                        if begins_afresh(codec, extradata, bytes(packet)):
                            fresh.append(len(presented))
                    presented.append(packet.pts)
                    durations.append(packet.duration or 0)
        except av.FFmpegError as error:
            raise_if_out_of_memory(error)
            self.broken = True
            if self.first_frame is None:
                self.first_frame = _first_frame(stream, None)
        decoding_order = np.array(presented, dtype=np.int64)
        unit = float(stream.time_base) if stream.time_base else math.nan
        self.stamps: NDArray[np.int64] = np.sort(decoding_order)
        first = float(self.stamps[0]) if len(self.stamps) else 0.0
        self.times = np.asarray((self.stamps - first) * unit, np.float64)
        self.origin = first * unit
        self._last_duration = durations[-1] * unit
        # The declared duration counts from the start of the file, which in captures is not zero.
        self.end -= float(container.start_time or 0) / av.time_base
        # Frames that are shown before a key frame but stored after it (open GOPs) cannot be decoded from it, so that
        # readers that jump to it miscount.
        earliest_from = np.minimum.accumulate(decoding_order[::-1])[::-1]
        latest_to = np.maximum.accumulate(decoding_order)
        parts = (earliest_from == decoding_order) & (latest_to == decoding_order)
        self.closed = len(keys) > 0 and bool(np.all(earliest_from[keys] == decoding_order[keys]))
        self.beginnings: NDArray[np.int64] = decoding_order[[index for index in fresh if parts[index]]]
        self._distinct = bool(np.all(np.diff(self.stamps) > 0))
        self.listed = listed and self._distinct and len(presented) > 0 and not self.broken and math.isfinite(unit)

    def frame_rate(self, declared: float | None) -> float | None:
        """Returns frames per second: the declared rate if it fits the packets, since it is exact, else their mean."""
        if len(self.times) < 2 or not self._distinct:
            return declared
        mean = _sane_rate((len(self.times) - 1) / self.times[-1])
        return declared if declared and mean and abs(declared - mean) < 0.02 * mean else mean

    def video_end(self, interval: float) -> float:
        """Returns when the last frame goes off display, in seconds after the first; 0 where no packet has a time."""
        if not len(self.times):
            return 0.0
        return round(float(self.times[-1]) + (self._last_duration if self._last_duration > 0 else interval), 6)


def begins_afresh(codec: str, extradata: bytes, packet: bytes) -> bool:
    """Tells whether decoding may begin here: no frame stored and shown after this one refers to a frame before it.

    Containers mark key frames, but not every mark can be trusted: with periodic intra refresh, and with some cameras,
    frames after the mark still refer to frames before it. So this looks into the packet.

    codec: name as FFmpeg has it.
        The answer is False for a codec that is not known here.
    extradata: the codec's configuration record, as MP4, Matroska and FLV store it.
    packet: the whole packet, which its container marks as a key frame.
    """
    if codec == "h264":
        size = _length_size(extradata, at=4)
        return _first_unit(packet, size, lambda header: header & 31, range(_H264_SLICE, _H264_IDR + 1)) == _H264_IDR
    if codec == "hevc":
        size = _length_size(extradata, at=21)
        slices = range(_HEVC_LAST_SLICE + 1)
        return _first_unit(packet, size, lambda header: header >> 1 & 63, slices) in _HEVC_REFRESHES
    if codec == "mpeg4":
        picture = packet.find(_MPEG4_PICTURE) + len(_MPEG4_PICTURE)
        return len(_MPEG4_PICTURE) <= picture < len(packet) and packet[picture] >> 6 == 0
    return codec in _REFUSE_WITHOUT_REFERENCE


def spares_unreferenced(codec: str, extradata: bytes) -> bool:
    """Tells whether the decoder can be told, packet by packet, to skip frames that are marked as no reference."""
    if codec == "hevc":
        # There the mark concerns one temporal layer: frames of a higher layer may still refer to the frame.
        return bool(_length_size(extradata, at=21)) and extradata[21] >> 3 & 7 == 1
    return codec != "av1"  # that decoder reads the option only once, before the first packet


def _length_size(extradata: bytes, at: int) -> int:
    """Returns the bytes of the length in front of each unit, 0 where the configuration says nothing of lengths."""
    return (extradata[at] & 3) + 1 if len(extradata) > at and extradata[0] == 1 else 0


def _first_unit(packet: bytes, size: int, kind_of: Callable[[int], int], kinds: range) -> int | None:
    """Returns the kind of the first unit whose kind is one of `kinds`."""
    position = 0
    while size and position + size < len(packet):
        kind = kind_of(packet[position + size])
        if kind in kinds:
            return kind
        position += size + int.from_bytes(packet[position : position + size])
    return None

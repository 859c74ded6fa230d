"""What a video file holds, found with PyAV before any decoder is trusted with it. Runs in the decoder process."""

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

from service.video.bitstream import begins_afresh
from service.video.errors import NoVideoStream, UnsupportedMedia, VideoTooLarge, VideoUnreadable
from service.video.messages import Request
from service.video.sampling import VideoInfo
from service.video.sniffing import Container

DEFAULT_FRAME_RATE = 25.0
"""For videos that say nothing about their rate, which GIF and AVI may."""
MAXIMUM_FRAME_RATE = 1000.0
UNREADABLE = "Not one frame of the video can be decoded; the file may be damaged. Encode it again as H.264 in MP4."


@dataclass(frozen=True)
class Media:
    """A video file after one pass over its packets, undecoded but for the first frame.

    `times` (n,) float64 are the presentation times of the packets in seconds, sorted, the first one 0; in the file that
    first one is at `origin`. `end` is when the last frame goes off display.
    `listed` says that every frame is known by exactly one of `times`, which its packet states as `stamps` (n,) int64 in
    units of the stream; `beginnings` (k,) int64 are those of them with which decoding may begin (see `skimming`).
    `regular` says that besides every key frame is such a beginning to go by its times, and the stream the default one:
    only then are frames found by their number what their number says. `cut_short` says that the file ends before the
    duration that it declares.
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
    """The PyAV container and its video stream, the one that a player takes by default.

    Raises VideoUnreadable, NoVideoStream and VideoTooLarge.
    """
    try:
        # The demuxer is fixed: left to itself it would also take playlists, which open other files.
        container = av.open(
            request.path,
            format=request.container.value,
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (av.FFmpegError, UnicodeError) as error:
        raise_if_out_of_memory(error)
        raise VideoUnreadable(
            f"The {request.container.name} headers of the video cannot be read; the upload may be incomplete. "
            "Upload it again."
        ) from error
    with container:
        yield container, _video_stream(container, request)


def _video_stream(container: Any, request: Request) -> Any:
    # A picture attached to a song is a video stream to a demuxer.
    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise NoVideoStream("The upload has no video stream, only sound or other data. Send a video.")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    codec = stream.codec_context
    if codec is None:
        raise VideoUnreadable("The codec of the video is not supported. Encode it as H.264 in MP4.")
    if codec.width * codec.height > request.limits.max_pixels:
        raise VideoTooLarge(
            f"The frames are {codec.width}x{codec.height} pixels; "
            f"at most {request.limits.max_pixels} pixels are decoded. Scale the video down."
        )
    # Said again to the decoder, because the stream itself may hold larger frames than its container declares.
    codec.options = {"max_pixels": str(request.limits.max_pixels)}
    codec.thread_type = "AUTO"
    codec.thread_count = request.limits.threads
    return stream


def raise_if_out_of_memory(error: Exception) -> None:
    """Raises MemoryError when that is what a library's error means."""
    if getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError from error


def examine(request: Request) -> Media:
    """Reads the packets of the file, and its first frame for rotation.

    Raises VideoUnreadable, NoVideoStream, VideoTooLarge, and UnsupportedMedia for a GIF that does not move.
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
        raise UnsupportedMedia("The upload is a GIF image that does not move. Send a video.")
    interval = 1.0 / (rate or DEFAULT_FRAME_RATE)
    end = packets.video_end(interval)
    # The declared duration is that of the longest stream, sound included, hence the comparison with all packets.
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
    """A frame that comes out when the packet, or None for the end, goes in; None if there is none yet."""
    try:
        return next(iter(stream.codec_context.decode(packet)), None)
    except av.FFmpegError as error:
        raise_if_out_of_memory(error)
        return None  # as long as one of the others decodes


def decoded(container: Any, stream: Any, on_error: Callable[[Exception], None]) -> Iterator[Any]:
    """Every frame of the stream that can be decoded; `on_error` is told about each packet that cannot.

    Raises MemoryError.
    """
    packets = container.demux(stream)
    cut_off = False
    while not cut_off:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            # The file ends in the middle of something. What the decoder still holds can be had all the same.
            raise_if_out_of_memory(error)
            on_error(error)
            cut_off = True
            packet = av.Packet()
            packet.stream, packet.time_base = stream, stream.time_base
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            raise_if_out_of_memory(error)
            on_error(error)
            continue
        yield from frames


def _sane_rate(rate: Any) -> float | None:
    return float(rate) if rate is not None and 0 < rate <= MAXIMUM_FRAME_RATE else None


class _Packets:
    """The times of all packets of a file, whether frames can be found by them, and the first frame."""

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
                    continue  # the flush at the end
                moment = packet.pts if packet.pts is not None else packet.dts
                if moment is not None:
                    self.end = max(self.end, float((moment + (packet.duration or 0)) * packet.time_base))
                if packet.stream != stream:
                    continue
                # A file that was cut off ends with part of a packet; elsewhere, something was lost on the way.
                self.broken = packet.is_corrupt
                listed &= not packet.is_corrupt
                if packet.pts is None:
                    listed = False
                elif packet.is_discard:
                    listed = False  # cut off by an edit list, but still counted by some readers
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
        # The end counts from zero as the declared duration does, but a stream may begin late, as captures do.
        self.end -= float(container.start_time or 0) / av.time_base
        # Frames that are shown before a key frame but stored after it (open GOPs) cannot be decoded from it: readers
        # that jump to it then miscount.
        earliest_from = np.minimum.accumulate(decoding_order[::-1])[::-1]
        latest_to = np.maximum.accumulate(decoding_order)
        parts = (earliest_from == decoding_order) & (latest_to == decoding_order)
        self.closed = len(keys) > 0 and bool(np.all(earliest_from[keys] == decoding_order[keys]))
        self.beginnings: NDArray[np.int64] = decoding_order[[index for index in fresh if parts[index]]]
        self._distinct = bool(np.all(np.diff(self.stamps) > 0))
        self.listed = listed and self._distinct and len(presented) > 0 and not self.broken and math.isfinite(unit)

    def frame_rate(self, declared: float | None) -> float | None:
        """Frames a second: as declared if that is about what there is, which is rounded less, else the mean."""
        if len(self.times) < 2 or not self._distinct:
            return declared
        mean = _sane_rate((len(self.times) - 1) / self.times[-1])
        return declared if declared and mean and abs(declared - mean) < 0.02 * mean else mean

    def video_end(self, interval: float) -> float:
        """When the last frame goes off display, in seconds after the first frame; 0 where no packet has a time."""
        if not len(self.times):
            return 0.0
        return round(float(self.times[-1]) + (self._last_duration if self._last_duration > 0 else interval), 6)

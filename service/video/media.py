"""Examines a video file with PyAV before any decoder is trusted with it. Runs in the decoder process."""

from __future__ import annotations

import errno
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from service.video.ballast import PatchedFile, ballast
from service.video.containers import Container
from service.video.encryption import has_encrypted_pictures, is_encrypted, is_encrypted_packet
from service.video.errors import NoVideoStream, UnsupportedMedia, VideoEncrypted, VideoTooLarge, VideoUnreadable
from service.video.picture import Orientation, square_size
from service.video.timing import (
    StreamFacts,
    Timing,
    order_is_plausible,
    pauses_are_plausible,
    sane_rate,
    timing_of_packets,
)
from service.video.wire import DecodeLimits, Request, VideoInfo

UNREADABLE = "not one frame of the video can be decoded; the file may be damaged: encode it again as H.264 in MP4"
ENCRYPTED = "the video is encrypted: send it decrypted"

_H264_SLICE, _H264_IDR = 1, 5
_HEVC_LAST_SLICE = 31
_HEVC_REFRESHES = range(16, 22)  # BLA, IDR and CRA pictures
_MPEG4_PICTURE = b"\x00\x00\x01\xb6"
# The decoders of these answer a frame whose reference is missing with an error: the container's mark can be trusted.
_REFUSE_WITHOUT_REFERENCE = {"vp8", "vp9", "av1"}
_WITHOUT_REFERENCES = {"mjpeg", "prores", "dnxhd"}  # every packet is a whole picture


@dataclass(frozen=True)
class Media:
    """Describes a video file after one pass over its packets. Only the first frame is decoded.

    info: what callers are told.
    facts: what the stream says of its times as a whole.
    timing: times of the frames, from those of the packets.
    doubtful: the packets do not tell when the frames are shown: ask the frames (see `times_of_frames`).
    in_turn: the times belong to the frames one after the other, whatever time the frames state.
    stamps: (n,) int64, the times of `timing` as the packets state them, in units of the stream.
    beginnings: (k,) int64, those of the stamps with which decoding may begin (see `begins_afresh`).
    listed: exactly one of the times of `timing` belongs to every frame.
    regular: decord's frame numbers are right.
        The file is listed, decoding may begin at every key frame by its time, the stream is the default one, and
        nothing of the file is hidden (see `ballast`), since decord opens the file itself.
    cut_short: the file ends before the duration that it declares.
    declared_duration: seconds, None where the file declares none.
    stream: index of the video stream.
    streams: number of video streams, without those that hold one picture, such as a cover.
    orientation: how its pictures are turned and mirrored for display.
    """

    info: VideoInfo
    facts: StreamFacts
    timing: Timing
    doubtful: bool
    in_turn: bool
    stamps: NDArray[np.int64]
    beginnings: NDArray[np.int64]
    listed: bool
    regular: bool
    cut_short: bool
    declared_duration: float | None
    stream: int
    streams: int
    orientation: Orientation

    def timed(self, timing: Timing) -> Media:
        """Returns the same with the times of the frames themselves, in the order in which they are shown."""
        duration = timing.end or self.declared_duration
        info = replace(self.info, start=timing.start, duration=duration, frame_rate=timing.frame_rate)
        return replace(self, info=info, timing=timing, doubtful=False, in_turn=True, listed=False, regular=False)


@contextmanager
def opened(request: Request) -> Iterator[tuple[Any, Any]]:
    """Opens the file: gives the PyAV container and the video stream that a player takes by default.

    Raises VideoUnreadable, NoVideoStream, VideoEncrypted and VideoTooLarge.
    """
    with open(request.path.removeprefix("file:"), "rb", buffering=0) as file:
        patches = ballast(file.fileno(), request.container)
        source = PatchedFile(file.fileno(), patches) if patches else request.path
        with _demuxed(source, file.fileno(), request) as container:
            stream = _displayed_stream(container)
            if is_encrypted(file.fileno(), request.container, stream, container.streams.video.index(stream)):
                raise VideoEncrypted(ENCRYPTED)
            _limit(stream, request.limits)
            yield container, stream


def _demuxed(source: str | PatchedFile, file: int, request: Request) -> Any:
    try:
        # The demuxer is fixed: PyAV would also choose those of playlists, which open other files.
        return av.open(
            source,
            format=request.container.value,
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (av.FFmpegError, UnicodeError) as error:
        raise_if_out_of_memory(error)
        if has_encrypted_pictures(file, request.container):
            raise VideoEncrypted(ENCRYPTED) from error
        raise VideoUnreadable(
            f"the {request.container.name} headers of the video cannot be read; the upload may be incomplete: "
            "upload it again"
        ) from error


def _displayed_stream(container: Any) -> Any:
    streams = _without_covers(container)
    if not streams:
        raise NoVideoStream("the upload has no video stream, only sound or other data: send a video")
    best = container.streams.best("video")
    moving = [stream for stream in streams if stream.frames != 1] or streams
    return best if best in moving else moving[0]


def _limit(stream: Any, limits: DecodeLimits) -> None:
    codec = stream.codec_context
    if codec is None:
        raise VideoUnreadable("the codec of the video is not supported: encode it as H.264 in MP4")
    if codec.width * codec.height > limits.max_pixels:
        raise VideoTooLarge(
            f"the frames have {codec.width}x{codec.height} pixels; "
            f"at most {limits.max_pixels} pixels are decoded: scale the video down"
        )
    # The decoder has to know too: the stream may hold larger frames than its container declares.
    codec.options = {"max_pixels": str(limits.max_pixels)}
    codec.thread_type = "AUTO"
    codec.thread_count = limits.threads


def _without_covers(container: Any) -> list[Any]:
    # For a demuxer the picture that belongs to a song is a video stream.
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def raise_if_out_of_memory(error: Exception) -> None:
    """Raises MemoryError where a library's error means that."""
    if getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError from error


def examine(request: Request) -> Media:
    """Reads the packets of the file, and decodes its first frame, which tells how pictures are turned.

    Raises VideoUnreadable, NoVideoStream, VideoEncrypted and VideoTooLarge. Raises UnsupportedMedia for a GIF that does
    not move.
    """
    with opened(request) as (container, stream):
        packets = _read_packets(container, stream)
        unit = float(stream.time_base or 0)
        began = float(container.start_time or 0) / av.time_base
        declared = container.duration / av.time_base if container.duration and container.duration > 0 else None
        declared_rate = sane_rate(stream.average_rate) or sane_rate(stream.guessed_rate)
        codec = stream.codec_context.codec.canonical_name
        reorders = bool(stream.codec_context.has_b_frames)
        is_default = stream == container.streams.best("video")
        is_unchanged = container.file is None
        index = stream.index
        streams = sum(each == stream or packets.counts[each.index] > 1 for each in _without_covers(container))
        pixel = stream.sample_aspect_ratio
    first = packets.first_frame
    if first is None:
        raise VideoUnreadable(UNREADABLE)
    if request.container is Container.GIF and len(packets.stamps) == 1:
        raise UnsupportedMedia("the upload is a GIF image that does not move: send a video")
    orientation = Orientation.of_frame(first)
    width, height = orientation.size(*square_size(first.width, first.height, pixel))
    decoding_order = np.array(packets.stamps, dtype=np.int64)
    stamps = np.sort(decoding_order)
    # AVI stores no presentation times. Its demuxer makes them up: the set is right, but on the wrong frames.
    is_made_up = request.container is Container.AVI
    begins = None if is_made_up or first.pts not in packets.stamps else first.pts
    undecodable = 0 if begins is None else packets.stamps.index(begins)
    facts = StreamFacts(request.container, began, declared_rate, undecodable)
    timing = timing_of_packets(
        facts,
        np.asarray(stamps * unit, np.float64),
        first=None if begins is None else begins * unit,
        last_duration=packets.last_duration * unit,
    )
    # An interlaced frame may be stored as two packets, one for each field.
    doubtful = len(stamps) == 0 or (
        not first.interlaced_frame
        and (
            packets.lack_times
            or not order_is_plausible(decoding_order, reorders=reorders)
            or not pauses_are_plausible(facts, timing)
        )
    )
    # The declared duration is that of the longest stream, sound included. It counts from the start of the file, which
    # in captures is not zero. In Matroska, many writers count from zero.
    lasted = packets.end - (min(began, 0.0) if request.container is Container.MATROSKA else began)
    is_short = declared is not None and lasted < declared - max(0.5, 2 * timing.step)
    # Frames that are shown before a key frame but stored after it (open GOPs) cannot be decoded from it, so that
    # readers that jump to it miscount.
    precede = np.minimum.accumulate(decoding_order[::-1])[::-1] < decoding_order
    follow = np.maximum.accumulate(decoding_order) > decoding_order
    is_closed = len(packets.keys) > 0 and not np.any(precede[packets.keys])
    is_whole = packets.are_whole and not packets.broken and not first.interlaced_frame
    listed = is_whole and not doubtful and len(stamps) > 0 and unit > 0
    return Media(
        info=VideoInfo(width, height, timing.end or declared, timing.frame_rate, codec, timing.start),
        facts=facts,
        timing=timing,
        doubtful=doubtful,
        in_turn=is_made_up and not doubtful,
        stamps=stamps[len(stamps) - len(timing.times) :],
        beginnings=decoding_order[[key for key in packets.fresh if not precede[key] and not follow[key]]],
        listed=listed,
        regular=listed and is_closed and is_default and is_unchanged and not timing.undecodable,
        cut_short=packets.broken or is_short,
        declared_duration=declared,
        stream=index,
        streams=streams,
        orientation=orientation,
    )


@dataclass
class _Packets:
    """Holds what one pass over the packets of a file tells. The lists are in decoding order.

    first_frame: PyAV frame, None where nothing can be decoded.
    counts: number of packets of each stream, by its index.
    stamps: presentation time of each video packet, in units of the stream.
    lack_times: a video packet that is displayed has no presentation time.
    keys: indices of the packets that the container marks as key frames.
    fresh: those of them with which decoding may begin.
    last_duration: duration of the video packet that is shown last, in units of the stream.
    end: when the last packet of any stream ends, in seconds.
    broken: the file ends within a packet.
    are_whole: every video packet is intact, has a presentation time and is displayed.
    """

    first_frame: Any = None
    counts: Counter[int] = field(default_factory=Counter)
    stamps: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)
    last_duration: int = 0
    end: float = 0.0
    broken: bool = False
    are_whole: bool = True
    lack_times: bool = False


def _read_packets(container: Any, stream: Any) -> _Packets:
    found = _Packets()
    latest = -math.inf
    codec, extradata = stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
    try:
        for packet in container.demux():
            if packet.stream == stream:
                if is_encrypted_packet(packet):
                    raise VideoEncrypted(ENCRYPTED)
                if found.first_frame is None:
                    found.first_frame = _first_frame(stream, packet)
            if packet.dts is None and packet.pts is None and packet.size == 0:
                continue  # the packet that flushes the decoder at the end
            found.counts[packet.stream_index] += 1
            moment = packet.pts if packet.pts is not None else packet.dts
            if moment is not None:
                found.end = max(found.end, float((moment + (packet.duration or 0)) * packet.time_base))
            if packet.stream != stream:
                continue
            # A file that was cut off ends with part of a packet. Any other damaged packet was lost on the way.
            found.broken = packet.is_corrupt
            # Packets that an edit list discards are still counted by some readers.
            found.are_whole &= packet.pts is not None and not packet.is_corrupt and not packet.is_discard
            found.lack_times |= packet.pts is None and not packet.is_discard
            if packet.pts is None or packet.is_discard:
                continue
            if packet.is_keyframe:
                found.keys.append(len(found.stamps))
                if begins_afresh(codec, extradata, bytes(packet)):
                    found.fresh.append(len(found.stamps))
            found.stamps.append(packet.pts)
            if packet.pts >= latest:
                latest, found.last_duration = packet.pts, packet.duration or 0
    except av.FFmpegError as error:
        raise_if_out_of_memory(error)
        found.broken = True
        if found.first_frame is None:
            found.first_frame = _first_frame(stream, None)
    return found


def _first_frame(stream: Any, packet: Any) -> Any:
    """Returns a frame that comes out when the packet goes in, None where none does. The packet is None at the end."""
    try:
        return next(iter(stream.codec_context.decode(packet)), None)
    except av.FFmpegError as error:
        raise_if_out_of_memory(error)
        return None  # one of the other packets may decode


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
    return codec in _REFUSE_WITHOUT_REFERENCE or codec in _WITHOUT_REFERENCES


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

"""Writes the drawn frames as H.264 in MP4, with the sound of the video beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from service.video import SNIFF_BYTES, DecodeLimits, Sampling, sniff_container
from service.video.encryption import is_encrypted
from service.video.media import opened
from service.video.timing import player_zero
from service.video.wire import Request

_LEAST_TICKS = 90_000
"""Units of time a second."""
_ROUNDING = 0.001
"""Matroska and others round times to milliseconds."""
_QUALITY = {
    "preset": "veryfast",
    "crf": "18",
    # The last frame is shown as long as it should be only where frames are stored in the order in which they are shown.
    "bf": "0",
}
_BT709 = 1
_LIMITED = 1
_IN_MP4 = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}
"""Codecs that players expect in an MP4."""


class Sound:
    """One audio stream, packet by packet, on the clock of a player of the video."""

    def __init__(self, container: Any, stream: Any, zero: float, length: float = math.inf) -> None:
        """`zero`: when a player's clock is 0, in seconds of the container. `length`: how many seconds are wanted."""
        self.stream = stream
        self._zero = zero
        self._length = length
        self._packets = self._shifted(container)
        self._next = next(self._packets, None)

    def packets(self, until: float) -> Iterator[Any]:
        """The next packets, those that begin before `until` seconds."""
        while self._next is not None and self._next.dts * self._next.time_base < until:
            yield self._next
            self._next = next(self._packets, None)

    def _shifted(self, container: Any) -> Iterator[Any]:
        shift: int | None = None
        last = expected = 0  # when the last packet began, and when it ended
        try:
            for packet in container.demux(self.stream):
                if packet.dts is None or packet.pts is None:
                    continue
                if shift is None:
                    shift = -round(self._zero / packet.time_base)
                elif packet.dts + shift <= last:  # another recording begins
                    shift = expected - packet.dts
                packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
                last, expected = packet.dts, packet.dts + max(1, packet.duration or 0)
                if packet.pts * packet.time_base >= self._length:
                    return
                if packet.pts >= 0:  # a player's clock begins with 0
                    yield packet
        except av.FFmpegError:
            return  # the file is cut off or damaged here: the sound ends, as it does in a player


@contextmanager
def sound_of(
    video: Path, limits: DecodeLimits, *, start: float = 0.0, length: float = math.inf
) -> Iterator[Sound | None]:
    """The sound of a video file; None where it has none that an MP4 takes, or it is encrypted.

    The file is opened in this process. Raises what `opened` does.

    start, length: of the wanted part, in seconds of a player. Its beginning is 0 of the sound's clock.
    """
    with video.open("rb") as file:
        container = sniff_container(file.read(SNIFF_BYTES))
        any_sampling = Sampling(fps=1.0, max_frames=1, height=1, width=1)
        request = Request(container, any_sampling, limits, path=f"file:{video}")
        with opened(request) as (source, stream):
            audio = source.streams.best("audio")
            if audio is None or not _is_playable(audio):
                yield None
                return
            before = source.streams.audio.index(audio)
            begins, first = (source.start_time or 0) / av.time_base, float((stream.start_time or 0) * stream.time_base)
            encrypted = is_encrypted(file.fileno(), container, audio, before)
            yield None if encrypted else Sound(source, audio, player_zero(container, begins, first) + start, length)


def _is_playable(audio: Any) -> bool:
    return audio.codec_context is not None and audio.codec_context.codec.canonical_name in _IN_MP4


class VideoWriter:
    """A context manager that encodes frames of one size; the file is complete when it ends.

    H.264 wants even sizes: of an odd one the last column or row is written twice.
    """

    def __init__(self, path: Path, *, width: int, height: int, frame_rate: float, sound: Sound | None) -> None:
        """`sound`: copied beside the frames; None for a silent video."""
        # Said as a file: a name with a colon would be taken for a protocol.
        self._container = av.open(f"file:{path}", "w", format="mp4", container_options={"movflags": "+faststart"})
        self._padding = ((0, height % 2), (0, width % 2), (0, 0))
        self._rate = rate = Fraction(frame_rate).limit_denominator(1001)
        # So many that every frame takes a whole number of them.
        self._ticks = rate.numerator * math.ceil(_LEAST_TICKS / rate.numerator)
        self._stream: Any = self._container.add_stream("libx264", rate=rate, options=_QUALITY)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.time_base = Fraction(1, self._ticks)
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED
        self._reformatter = VideoReformatter()
        self._durations: dict[int, int] = {}
        self._last = -1
        self._sound = sound
        self._sound_stream: Any = None if sound is None else self._container.add_stream_from_template(sound.stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            self._mux(self._stream.encode())
            self._copy_sound(float("inf"))
        self._container.close()

    def write(self, pixels: NDArray[np.uint8], *, time: float, duration: float) -> None:
        """Appends a frame (height, width, 3) uint8 RGB, shown for `duration` from `time` on; both in seconds."""
        padded = np.pad(pixels, self._padding, mode="edge")
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(padded, format="rgb24"),
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            threads=1,
        )
        frame.time_base = Fraction(1, self._ticks)
        frame.pts = self._last = max(self._last + 1, self._tick(time))
        self._durations[frame.pts] = max(1, self._tick(time + duration) - frame.pts)
        self._mux(self._stream.encode(frame))
        self._copy_sound(time)

    def _tick(self, time: float) -> int:
        """A time in units; that of the frame rate where the container may have rounded it."""
        even = round(time * self._rate) / self._rate
        return round((even if abs(even - time) < _ROUNDING else time) * self._ticks)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            # Encoders do not say it, and without it the last frame would be shown for no time.
            packet.duration = self._durations.pop(packet.pts)
            self._container.mux(packet)

    def _copy_sound(self, until: float) -> None:
        if self._sound is not None:
            for packet in self._sound.packets(until):
                packet.stream = self._sound_stream
                self._container.mux(packet)

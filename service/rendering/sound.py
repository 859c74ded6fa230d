"""The sound of a video, to be copied as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from service.video import SNIFF_BYTES, DecodeLimits, Sampling, sniff_container
from service.video.media import opened
from service.video.wire import Request

_IN_MP4 = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}
"""Codecs that players expect in an MP4."""


class Sound:
    """One audio stream, packet by packet, on the clock of the drawn video, whose first frame is at 0."""

    def __init__(self, container: Any, stream: Any, origin: float) -> None:
        """`origin`: when the first frame of the video is shown, in seconds of the container."""
        self.stream = stream
        self._origin = origin
        self._packets = self._shifted(container)
        self._next = next(self._packets, None)

    def packets(self, until: float) -> Iterator[Any]:
        """The next packets, those that begin before `until` seconds."""
        while self._next is not None and self._next.dts * self._next.time_base < until:
            yield self._next
            self._next = next(self._packets, None)

    def _shifted(self, container: Any) -> Iterator[Any]:
        try:
            for packet in container.demux(self.stream):
                if packet.dts is None or packet.pts is None:
                    continue
                shift = round(self._origin / packet.time_base)
                packet.dts, packet.pts = packet.dts - shift, packet.pts - shift
                if packet.pts >= 0:  # sound from before the first frame has no place
                    yield packet
        except av.FFmpegError:
            return  # the file is cut off or damaged here: the sound ends, as it does in a player


@contextmanager
def sound_of(video: Path, limits: DecodeLimits) -> Iterator[Sound | None]:
    """The sound of a video file; None where it has none that an MP4 takes.

    The file is opened in this process. Raises what `opened` does.
    """
    with video.open("rb") as file:
        container = sniff_container(file.read(SNIFF_BYTES))
    any_sampling = Sampling(fps=1.0, max_frames=1, height=1, width=1)
    request = Request(container, any_sampling, limits, path=f"file:{video}")
    with opened(request) as (source, stream):
        audio = source.streams.best("audio")
        if audio is None or audio.codec_context is None or audio.codec_context.codec.canonical_name not in _IN_MP4:
            yield None
            return
        yield Sound(source, audio, float((stream.start_time or 0) * stream.time_base))

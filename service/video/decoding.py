"""Decodes and scales the frames of a stream with PyAV. Runs in the decoder process.

`decode_wanted` decodes what the wanted frames need, and little else. A wanted frame needs those that are stored before
it, back to the last packet where decoding may begin, and of these only the ones that others refer to. A frame that
comes out is known by the time stamp of its packet, so nothing depends on counting frames.

`decode_all` decodes the stream from one end to the other, and `times_of_frames` does so to learn when frames are shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from service.video.errors import VideoUnreadable
from service.video.media import UNREADABLE, Media, opened, raise_if_out_of_memory, spares_unreferenced
from service.video.timing import Timing, timing_of_frames
from service.video.wire import Request


class MissingFrameError(Exception):
    """A wanted frame does not come out of the decoder as it should."""


def decode_wanted(
    container: Any, stream: Any, wanted: NDArray[np.int64], beginnings: NDArray[np.int64]
) -> Iterator[Any]:
    """Yields the frames of the stream with the wanted time stamps, in order.

    wanted: ascending stamps in units of the stream.
    beginnings: ascending stamps of the frames with which decoding may begin.
        What is stored after one of them is shown after it, and what is stored before it is shown before it.

    Raises MissingFrameError, also for a frame that the decoder calls damaged, and MemoryError.
    """
    expected = iter(wanted.tolist())
    awaited = next(expected, None)
    for frame in decode_needed(container, stream, wanted, beginnings):
        if awaited is None or frame.pts is None or frame.pts < awaited:
            continue
        if frame.pts > awaited or frame.is_corrupt:
            break
        yield frame
        awaited = next(expected, None)
    if awaited is not None:
        raise MissingFrameError(f"the frame with stamp {awaited} is missing or damaged")


def decode_needed(
    container: Any, stream: Any, wanted: NDArray[np.int64], beginnings: NDArray[np.int64]
) -> Iterator[Any]:
    """Yields all that the decoder gives: the wanted frames and some of those that they need."""
    codec = stream.codec_context
    spare = "NONREF" if spares_unreferenced(codec.codec.canonical_name, codec.extradata or b"") else "DEFAULT"
    sections = np.searchsorted(beginnings, wanted, side="right") - 1
    if sections[0] < 0:
        raise MissingFrameError("decoding may begin nowhere before the first wanted frame")
    in_section = dict(zip(beginnings.tolist(), np.bincount(sections, minlength=len(beginnings)).tolist(), strict=True))
    stamps = set(wanted.tolist())
    to_send = 0
    sending = False
    try:
        for packet in container.demux(stream):
            if not stamps or packet.pts is None:
                break
            to_send = in_section.get(packet.pts, to_send)
            if to_send:
                is_wanted = packet.pts in stamps
                codec.skip_frame = "DEFAULT" if is_wanted else spare
                yield from packet.decode()
                sending = True
                to_send -= is_wanted
                stamps.discard(packet.pts)
            elif sending:
                # The decoder gives what it still holds. The next packet does not continue the last one.
                yield from codec.decode(None)
                codec.flush_buffers()
                sending = False
        if sending:
            yield from codec.decode(None)
    except av.FFmpegError as error:
        raise_if_out_of_memory(error)
        raise MissingFrameError(type(error).__name__) from error


def decode_all(container: Any, stream: Any, on_error: Callable[[Exception], None]) -> Iterator[Any]:
    """Yields every frame of the stream that can be decoded, and tells `on_error` about each packet that cannot.

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
            # The file ends within a packet. An empty packet makes the decoder give what it still holds.
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


def times_of_frames(request: Request, media: Media) -> Timing:
    """Decodes all of the video and decides the times of its frames from what they state.

    Raises VideoUnreadable and MemoryError.
    """
    stated, lasts = [], 0.0
    with opened(request) as (container, stream):
        for frame in decode_all(container, stream, on_error=lambda error: None):
            stated.append(math.nan if frame.time is None else frame.time)
            lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
    if not stated:
        raise VideoUnreadable(UNREADABLE)
    return timing_of_frames(media.facts, np.array(stated), last_duration=lasts)


class Scaler:
    """Stretches frames with FFmpeg's scale filter, and so makes to the bit what decord and `ffmpeg` make.

    PyAV's own `VideoFrame.reformat` places chroma differently.
    """

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._graph = Graph()

    def rgb(self, frame: Any, width: int, height: int) -> NDArray[np.uint8]:
        """Returns a PyAV frame as (height, width, 3) uint8 RGB."""
        # To set up a filter costs more than its use, but frames may change in the middle of a video.
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, width, height)
        if key != self._key:
            self._graph = _graph(frame, width, height)
            self._key = key
        self._graph.push(frame)
        return np.asarray(self._graph.pull().to_ndarray(), np.uint8)


def _graph(frame: Any, width: int, height: int) -> Graph:
    graph = Graph()
    graph.threads = 1
    # Scaling needs no unit of time, and the last frames of a decoder do not state theirs.
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))
    graph.link_nodes(
        source,
        graph.add("scale", f"{width}:{height}:flags=bicubic"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    )
    graph.configure()
    return graph

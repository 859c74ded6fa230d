"""Takes the sampled frames in the cheapest of three ways that is right for the file. Runs in the decoder process.

1. Where packets say reliably what they hold, PyAV decodes little more than the wanted frames (see `decoding`).
2. Other files go to decord, which finds frames by number, if its numbers are known to be right and its times are those
   that PyAV found. decord is wrong about MPEG transport and program streams, about key frames with frames that are
   stored after and shown before them, and about AVI with reordered frames.
3. What is left, and what the first two ways fail on, PyAV decodes from one end to the other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import decord
import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.graph.fitting import Size, filled
from service.video.containers import Container
from service.video.decoding import MissingFrameError, Scaler, decode_all, decode_wanted, times_of_frames
from service.video.errors import RangeOutsideVideo, VideoTooLarge, VideoUnreadable
from service.video.media import UNREADABLE, Media, opened
from service.video.picture import Orientation
from service.video.timing import TIME_DECIMALS
from service.video.wire import Request, Sampling

# Containers whose packets say when their frames are shown.
_STATE_TIMES = {Container.MP4, Container.MATROSKA, Container.FLV}
_DECORD_READS = {Container.MP4, Container.MATROSKA, Container.AVI, Container.GIF, Container.FLV}
_SMALLEST_SIDE = 16  # decord rejects frames whose padded rows are longer than the frames are wide
# Containers round times, Matroska to whole milliseconds: a frame that is due within a millisecond counts as on display,
# or asking for a video's own frame rate would skip every other frame.
_ROUNDING = 0.001

_MOST_JOINTS_NAMED = 5

decord.logging.set_level(decord.logging.QUIET)

Chunk = tuple[NDArray[np.float64], NDArray[np.uint8]]


class _DecordError(Exception):
    """decord cannot be trusted with this file. PyAV decodes all of it instead."""


class _TimesError(Exception):
    """A frame does not come later than the one before it."""


@dataclass
class SampledFrames:
    """Takes the sampled frames of one examined video. Iterate over `chunks` once.

    request: what to take.
    media: the examined file.
    warnings: code and detail of each warning; complete when the iteration has ended.
    """

    request: Request
    media: Media
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sampler = Sampler(self.request.sampling)
        self._emitted = 0
        self._last = self._shown = -1.0
        self._scaler = Scaler()
        self._warn_of_times()
        if self.media.streams > 1:
            self._warn(
                "several_video_streams",
                f"the file has {self.media.streams} video streams; stream {self.media.stream}, its default, is used",
            )

    @property
    def expected(self) -> int:
        """The number of frames that will come if all of them can be decoded."""
        return min(self.request.sampling.max_frames, len(self._taken()))

    def chunks(self) -> Iterator[Chunk]:
        """Yields timestamps (n,) float64 in seconds and frames (n, height, width, 3) uint8 RGB, in order.

        Raises RangeOutsideVideo, VideoUnreadable, VideoTooLarge and MemoryError.
        """
        start, end = self.request.sampling.start, self.media.timing.end
        if start >= end:
            raise _outside(start, end)
        if self.media.cut_short:
            self._warn("video_truncated", _cut_short(self.media))
        try:
            yield from self._chosen_by_packets()
        except (MissingFrameError, _DecordError) as reason:
            logging.getLogger(__name__).debug("decoding all of the video: %s", reason)
            yield from self._chosen_by_frames()

    def _taken(self) -> NDArray[np.intp]:
        """Returns the indices of the times whose frames are sampled."""
        timing = self.media.timing
        return np.flatnonzero(self._sampler.takes(timing.times, np.append(timing.times[1:], timing.end)))

    def _chosen_by_packets(self) -> Iterator[Chunk]:
        """Yields frames that the times of the packets choose, before anything is decoded."""
        request, media, times = self.request, self.media, self.media.timing.times
        if not media.listed:
            raise _DecordError("frames cannot be found by number")
        take = self._taken()
        wanted = take[: request.sampling.max_frames]
        by_stamp = request.container in _STATE_TIMES and len(media.beginnings) > 0
        frames = self._from_packets(wanted) if by_stamp else self._from_decord(wanted)
        for numbers, pixels in frames:
            self._last = float(times[numbers[-1]])
            self._emitted += len(numbers)
            yield times[numbers], pixels
        if len(take) > len(wanted):
            self._warn_of_many(float(times[take[len(wanted)]]))

    def _from_packets(self, wanted: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        size = self.request.limits.chunk_frames
        with opened(self.request) as (container, stream):
            frames = decode_wanted(container, stream, self.media.stamps[wanted], self.media.beginnings)
            for begin in range(0, len(wanted), size):
                numbers = wanted[begin : begin + size]
                yield numbers, np.stack([self._converted(frame) for frame in islice(frames, len(numbers))])

    def _from_decord(self, wanted: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        request, media = self.request, self.media
        if request.container not in _DECORD_READS or not media.regular:
            raise _DecordError("frames cannot be found by number")
        if media.orientation != Orientation():
            raise _DecordError("decord does not mirror, and turns only as the container says")
        if min(media.info.width, media.info.height) < _SMALLEST_SIDE:
            raise _DecordError("the frames are tiny")
        reader = _decord_reader(request, media, self._filled)
        for begin in range(0, len(wanted), request.limits.chunk_frames):
            numbers = wanted[begin : begin + request.limits.chunk_frames]
            frames = _decord_call(reader.get_batch, numbers).asnumpy()
            width, height = self._filled
            if frames.shape != (len(numbers), height, width, 3):
                raise _DecordError(f"{frames.shape} frames came back for {len(numbers)} numbers")
            yield numbers, self._padded(frames)

    def _chosen_by_frames(self) -> Iterator[Chunk]:
        """Yields frames that their own times choose, after they are decoded."""
        times: list[float] = []
        frames: list[NDArray[np.uint8]] = []
        for time, frame in self._displayed():
            if time <= self._last:
                continue  # it was yielded before
            if self._emitted == self.request.sampling.max_frames:
                self._warn_of_many(time)
                break
            times.append(time)
            frames.append(self._converted(frame))
            self._last = time
            self._emitted += 1
            if len(times) == self.request.limits.chunk_frames:
                yield np.array(times), np.stack(frames)
                times, frames = [], []
        if times:
            yield np.array(times), np.stack(frames)

    def _displayed(self) -> Iterator[tuple[float, Any]]:
        """Yields the frames on display at the sampling times, each with its own time."""
        try:
            yield from self._timed()
        except _TimesError:
            # Packets in a plausible order may give frames in another one. Now the frames themselves tell.
            self.media = self.media.timed(times_of_frames(self.request, self.media))
            self._warn_of_times()
            yield from self._timed()

    def _timed(self) -> Iterator[tuple[float, Any]]:
        broken: list[Exception] = []
        held, begin = None, 0.0
        with opened(self.request) as (container, stream):
            for number, frame in enumerate(decode_all(container, stream, on_error=broken.append)):
                time = self._time_of(number, frame)
                if held is None:
                    broken.clear()  # what lies before the first frame was said to be undecodable
                elif self._sampler.takes(begin, time):
                    yield begin, held
                if self._sampler.is_past(time):
                    return
                held, begin = frame, time
        if held is None:
            raise VideoUnreadable(UNREADABLE)
        timing = self.media.timing
        end = timing.end if timing.times[-1] < begin + timing.step / 2 else begin + timing.step
        if self._sampler.takes(begin, end):
            yield begin, held
        if self._emitted == 0 and self.request.sampling.start >= end:
            raise _outside(self.request.sampling.start, end)
        if self.media.cut_short:
            return
        if timing.end - end > max(0.5, 2 * timing.step):
            self._warn("video_truncated", f"only {end:.2f} s of {timing.end:.2f} s could be decoded")
        elif broken:
            self._warn("video_damaged", f"{_count(len(broken), 'packet')} of the video could not be decoded")

    def _time_of(self, number: int, frame: Any) -> float:
        """Returns the time of the frame that the decoder gives as the `number`th, from 0.

        Raises _TimesError where the frame does not state one that is right.
        """
        timing = self.media.timing
        if self.media.in_turn:
            beyond = max(0, number + 1 - len(timing.times))
            return float(timing.times[number - beyond]) + timing.step * beyond
        time = math.nan if frame.time is None else round(frame.time - timing.zero, TIME_DECIMALS)
        if not (time > self._shown if number else time == 0):
            raise _TimesError
        self._shown = time
        return time

    def _converted(self, frame: Any) -> NDArray[np.uint8]:
        """Returns a decoded frame as RGB, as it is displayed, of the size that was asked for."""
        if frame.width * frame.height > self.request.limits.max_pixels:
            raise VideoTooLarge(f"the video has frames of {frame.width}x{frame.height} pixels: scale it down")
        orientation = self.media.orientation
        width, height = orientation.size(*self._filled)
        return self._padded(orientation.apply(self._scaler.rgb(frame, width, height)))

    @property
    def _filled(self) -> Size:
        sampling, info = self.request.sampling, self.media.info
        return filled((sampling.width, sampling.height), (info.width, info.height), sampling.fit)

    def _padded(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns pictures (…, h, w, 3) as frames (…, height, width, 3), black to the right and below."""
        *others, height, width, _ = pictures.shape
        sampling = self.request.sampling
        if (height, width) == (sampling.height, sampling.width):
            return pictures
        frames = np.zeros((*others, sampling.height, sampling.width, 3), np.uint8)
        frames[..., :height, :width, :] = pictures
        return frames

    def _warn_of_times(self) -> None:
        timing = self.media.timing
        if timing.undecodable and not any(code == "beginning_undecodable" for code, _ in self.warnings):
            self._warn(
                "beginning_undecodable",
                f"the first {timing.undecodable:.2f} s of the file cannot be decoded: times count from the first frame "
                "that can",
            )
        if timing.estimated:
            self._warn(
                "timestamps_repaired",
                f"{_count(timing.estimated, 'frame')} had no usable time; the service estimated it",
            )
        if timing.joints:
            joints = ", ".join(f"{joint:.2f} s" for joint in timing.joints[:_MOST_JOINTS_NAMED])
            more = ", …" if len(timing.joints) > _MOST_JOINTS_NAMED else ""
            self._warn(
                "timestamps_repaired",
                f"the times of the file begin again at {joints}{more}; the service joined the parts",
            )

    def _warn_of_many(self, time: float) -> None:
        self._warn(
            "max_frames_reached",
            f"sampling stopped before {time:.2f} s, after {self._emitted} frames: lower fps to see more",
        )

    def _warn(self, code: str, detail: str) -> None:
        self.warnings.append((code, detail))


def _decord_reader(request: Request, media: Media, size: Size) -> Any:
    reader = _decord_call(
        decord.VideoReader,
        request.path,
        width=size[0],
        height=size[1],
        num_threads=request.limits.threads,
        # Share of frames that may silently be copies of their neighbours: none.
        fault_tol=1e-9,
    )
    if len(reader) != len(media.timing.times):
        raise _DecordError(f"{len(reader)} frames for {len(media.timing.times)} packets")
    times = _decord_call(reader.get_frame_timestamp, np.arange(len(reader)))[:, 0].astype(np.float64)
    # Its times are float32.
    if not np.allclose(times, media.timing.times, rtol=1e-6, atol=1e-3):
        raise _DecordError("its timestamps are not those of the packets")
    return reader


def _decord_call(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Calls decord. Raises _DecordError however decord fails."""
    try:
        return call(*arguments, **options)
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, IndexError, AssertionError) as error:
        raise _DecordError(type(error).__name__) from error


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _outside(start: float, end: float) -> RangeOutsideVideo:
    return RangeOutsideVideo(f"start is {start:g} s, but the video ends at {end:.2f} s: give an earlier start")


def _cut_short(media: Media) -> str:
    declared = f" of the {media.declared_duration:.2f} s that it declares" if media.declared_duration else ""
    return f"the file ends early: it has {media.timing.end:.2f} s{declared}"


class Sampler:
    """Chooses the frames that are on display at the sampling times `start + k / fps`.

    A frame on display from `begin` to `end` is taken if at least one sampling time lies in that interval. So no frame
    is taken twice, and none is missed, however irregular the frames are.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._fps = sampling.fps
        self._start = sampling.start
        self._end = math.inf if sampling.end is None else sampling.end
        self._asked = math.inf if sampling.end is None else math.ceil((sampling.end - self._start) * self._fps - 1e-9)

    def takes(self, begin: ArrayLike, end: ArrayLike) -> NDArray[np.bool_]:
        """Tells for each frame, on display from `begin` to `end` (seconds, any shape), whether it is taken."""
        return self._asked_before(end) > self._asked_before(begin)

    def is_past(self, time: float) -> bool:
        """Tells whether no frame that begins at `time` seconds or later is taken."""
        return time > self._end + _ROUNDING

    def _asked_before(self, time: ArrayLike) -> NDArray[np.float64]:
        count = np.ceil((np.asarray(time, dtype=np.float64) - self._start - _ROUNDING) * self._fps)
        return np.clip(count, 0.0, self._asked)

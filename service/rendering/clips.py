"""Cuts a moment out of a video."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from service.rendering.render import DEFAULT_FRAME_RATE, MOST_FRAMES, shown_frames
from service.rendering.writer import VideoWriter, sound_of
from service.video import EVERY_FRAME, DecodeLimits, Sampling, VideoInfo, VideoReader

_DEFAULT_LIMITS = DecodeLimits()


def write_clip(video: Path, out: Path, start: float, end: float, limits: DecodeLimits = _DEFAULT_LIMITS) -> None:
    """Writes a part of a video as H.264 in MP4, with its sound where an MP4 takes it.

    The frames are upright and of the video's size, from the one that is on display at `start`; there is always one.

    start, end: in seconds from the first frame, as in a graph.

    Raises what VideoReader raises.
    """
    info = _info(video, limits)
    interval = 1.0 / (info.frame_rate or DEFAULT_FRAME_RATE)
    end = max(end, start + interval)
    sampling = Sampling(EVERY_FRAME, MOST_FRAMES, info.height, info.width, start=start, end=end)
    with ExitStack() as stack:
        # Full frames are large, and one at a time is as fast.
        reader = stack.enter_context(VideoReader(video, sampling, replace(limits, chunk_frames=1)))
        sound = sound_of(video, limits, start=info.start + start, length=end - start)
        writer = VideoWriter(
            out,
            width=info.width,
            height=info.height,
            frame_rate=info.frame_rate or DEFAULT_FRAME_RATE,
            sound=stack.enter_context(sound),
        )
        stack.enter_context(writer)
        for time, duration, pixels in shown_frames(reader, end=end, interval=interval):
            if time >= end:
                break
            hidden = max(0.0, start - time)  # the first frame may be on display before
            writer.write(pixels, time=max(0.0, time - start), duration=duration - hidden)


def _info(video: Path, limits: DecodeLimits) -> VideoInfo:
    with VideoReader(video, Sampling(fps=1.0, max_frames=1, height=1, width=1), limits) as reader:
        return reader.info

"""Draws a scene graph on every frame of its video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.graph.scene_graph import SceneGraph
from service.rendering.drawing import draw_moment, quietest_corner
from service.rendering.sound import sound_of
from service.rendering.source import check_belongs, sampling
from service.rendering.timeline import Timeline
from service.rendering.writer import VideoWriter
from service.video import EVERY_FRAME, DecodeLimits, VideoReader

_DEFAULT_LIMITS = DecodeLimits()
_DEFAULT_FRAME_RATE = 25.0
"""Of a video that does not say its own; its frames keep their times all the same."""
_MOST_FRAMES = 2**53


def render_video(
    video: Path,
    graph: SceneGraph,
    out: Path,
    progress: Callable[[float], None] = lambda seconds: None,
    *,
    scale: int = 1,
    sound: bool = False,
    limits: DecodeLimits = _DEFAULT_LIMITS,
) -> None:
    """Writes the video with boxes, names and triplets drawn on it, as H.264 in MP4 with 8 bits.

    Every frame is there, at its time, upright, `scale` times as large; an odd width or height gets one pixel more at
    the right or at the bottom. Between the sampled frames of the graph boxes move evenly, by object id, and triplets
    are those of the last sampled frame. Memory does not grow with the length of the video.

    progress  is called after every frame with its time in seconds
    sound     is copied where an MP4 takes it; for that the file is read, though nothing decoded, in this process

    Raises RenderError for a graph of another video, and what VideoReader raises.
    """
    timeline, corner = Timeline(graph), quietest_corner(graph)
    with ExitStack() as stack:
        # Full frames are large, and one at a time is as fast.
        reader = VideoReader(video, sampling(graph, scale, fps=EVERY_FRAME, max_frames=_MOST_FRAMES), _single(limits))
        info = stack.enter_context(reader).info
        check_belongs(graph, info)
        writer = stack.enter_context(
            VideoWriter(
                out,
                width=scale * info.width,
                height=scale * info.height,
                frame_rate=info.frame_rate or _DEFAULT_FRAME_RATE,
                sound=stack.enter_context(sound_of(video, limits)) if sound else None,
            )
        )
        interval = 1.0 / (info.frame_rate or _DEFAULT_FRAME_RATE)
        for time, duration, pixels in _shown(reader, end=info.duration, interval=interval):
            image = Image.fromarray(pixels)
            draw_moment(image, timeline.at(time), scale=scale, text=corner)
            writer.write(np.asarray(image), time=time, duration=duration)
            progress(time)


def _single(limits: DecodeLimits) -> DecodeLimits:
    return replace(limits, chunk_frames=1)


def _shown(
    reader: VideoReader, *, end: float | None, interval: float
) -> Iterator[tuple[float, float, NDArray[np.uint8]]]:
    """Every frame with its time and how long it is shown: until the next one, the last until `end`; in seconds."""
    held: tuple[float, NDArray[np.uint8]] | None = None
    for chunk in reader:
        for time, pixels in zip(chunk.timestamps.tolist(), chunk.frames, strict=True):
            if held is not None:
                yield held[0], time - held[0], held[1]
            held = (time, pixels)
    if held is not None:
        rest = 0.0 if end is None else end - held[0]
        yield held[0], rest if rest > 0 else interval, held[1]

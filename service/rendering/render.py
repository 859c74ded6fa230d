"""Draws a scene graph on every frame of its video, or on one frame with the graph of that moment beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.graph.scene_graph import SceneGraph
from service.errors import RenderError
from service.rendering.diagram import draw_diagram
from service.rendering.drawing import Timeline, draw_moment, quietest_corner
from service.rendering.tags import Style
from service.rendering.writer import VideoWriter, sound_of
from service.video import EVERY_FRAME, DecodeLimits, Sampling, VideoInfo, VideoReader
from service.video.errors import RangeOutsideVideo, VideoUnreadable

_DEFAULT_LIMITS = DecodeLimits()
DEFAULT_FRAME_RATE = 25.0
"""Of a video that does not say its own; its frames keep their times all the same."""
MOST_FRAMES = 2**53
_LEAST_HEIGHT = 240
"""Of the diagram, in pixels: a tiny video would leave no room for a graph."""
_BACKGROUND = (255, 255, 255)


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

    Every frame is there, at the time at which players show it in the video, upright, `scale` times as large; an odd
    width or height gets one pixel more at the right or at the bottom. Between the sampled frames of the graph boxes
    move evenly, by object id, and triplets are those of the last sampled frame. Memory does not grow with the length of
    the video.

    Raises RenderError for a graph of another video, and what VideoReader raises.

    progress: called after every frame with its time in seconds.
    sound: whether to copy it, where an MP4 takes it. For that the file is read, though not decoded, in this process.
    """
    timeline, corner = Timeline(graph), quietest_corner(graph)
    with ExitStack() as stack:
        # Full frames are large, and one at a time is as fast.
        single = replace(limits, chunk_frames=1)
        reader = VideoReader(video, _sampling(graph, scale, fps=EVERY_FRAME, max_frames=MOST_FRAMES), single)
        info = stack.enter_context(reader).info
        _check_belongs(graph, info)
        writer = stack.enter_context(
            VideoWriter(
                out,
                width=scale * info.width,
                height=scale * info.height,
                frame_rate=info.frame_rate or DEFAULT_FRAME_RATE,
                sound=stack.enter_context(sound_of(video, limits)) if sound else None,
            )
        )
        interval = 1.0 / (info.frame_rate or DEFAULT_FRAME_RATE)
        for time, duration, pixels in shown_frames(reader, end=info.duration, interval=interval):
            image = Image.fromarray(pixels)
            draw_moment(image, timeline.at(time), scale=scale, text=corner)
            writer.write(np.asarray(image), time=info.start + time, duration=duration)
            progress(time)


def render_frame(
    video: Path, graph: SceneGraph, at: float, *, scale: int = 1, limits: DecodeLimits = _DEFAULT_LIMITS
) -> Image.Image:
    """The frame on display at `at` seconds, `scale` times as large, and on its right the graph of that moment.

    The frame is in the upper left corner, with boxes and names. The graph has subjects on the left, things on the right
    and the predicates on its arrows.

    Raises RenderError for a graph of another video, and what VideoReader raises.
    """
    duration = graph.video.duration
    if duration is not None and at >= duration:
        raise RangeOutsideVideo(f"there is no frame at {at:g} s; the video ends at {duration:.2f} s")
    with VideoReader(video, _sampling(graph, scale, fps=1.0, max_frames=1, start=at), limits) as reader:
        _check_belongs(graph, reader.info)
        chunk = next(reader, None)
    if chunk is None:
        raise VideoUnreadable(f"no frame of the video could be read at {at:g} s; ask for another time")
    moment = Timeline(graph).at(float(chunk.timestamps[0]))
    frame = Image.fromarray(chunk.frames[0])
    draw_moment(frame, moment, scale=scale)
    height = max(frame.height, _LEAST_HEIGHT)
    diagram = draw_diagram(moment, graph.vocabulary.subjects, height=height, style=Style.of(height, height))
    picture = Image.new("RGB", (frame.width + diagram.width, diagram.height), _BACKGROUND)
    picture.paste(frame, (0, 0))
    picture.paste(diagram, (frame.width, 0))
    return picture


def _sampling(graph: SceneGraph, scale: int, *, fps: float, max_frames: int, start: float = 0.0) -> Sampling:
    """Frames `scale` times as large as the graph's video. Raises RenderError where no frame may be so large."""
    width, height = scale * graph.video.width, scale * graph.video.height
    try:
        return Sampling(fps=fps, max_frames=max_frames, height=height, width=width, start=start)
    except ValueError as error:
        raise RenderError(f"frames of {width}x{height} pixels cannot be drawn: {error}") from error


def _check_belongs(graph: SceneGraph, info: VideoInfo) -> None:
    """Raises RenderError where the boxes of the graph are not pixels of this video."""
    stated = graph.video
    if (stated.width, stated.height) != (info.width, info.height):
        raise RenderError(
            f"the graph is of a video of {stated.width}x{stated.height} pixels, but this one has "
            f"{info.width}x{info.height}; give the graph's own video, or make a graph of this one with `vsg graph`"
        )


def shown_frames(
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

"""Draws one frame of a video beside its scene graph."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from models.graph.scene_graph import SceneGraph
from service.rendering.diagram import draw_diagram
from service.rendering.drawing import draw_moment
from service.rendering.labels import Style
from service.rendering.source import check_belongs, sampling
from service.rendering.timeline import Timeline
from service.video import DecodeLimits, VideoReader
from service.video.errors import RangeOutsideVideo, VideoUnreadable

_DEFAULT_LIMITS = DecodeLimits()
_LEAST_HEIGHT = 240
"""Of the diagram, in pixels: a tiny video would leave no room for a graph."""
_BACKGROUND = (255, 255, 255)


def render_frame(
    video: Path, graph: SceneGraph, at: float, *, scale: int = 1, limits: DecodeLimits = _DEFAULT_LIMITS
) -> Image.Image:
    """The frame on display at `at` seconds, `scale` times as large, and on its right the graph of that moment.

    The frame is in the upper left corner, with boxes and names; the graph, people left and things right, has the
    predicates on its arrows.

    Raises RenderError for a graph of another video, and what VideoReader raises.
    """
    duration = graph.video.duration
    if duration is not None and at >= duration:
        raise RangeOutsideVideo(f"there is no frame at {at:g} s; the video ends at {duration:.2f} s")
    with VideoReader(video, sampling(graph, scale, fps=1.0, max_frames=1, start=at), limits) as reader:
        check_belongs(graph, reader.info)
        chunk = next(reader, None)
    if chunk is None:
        raise VideoUnreadable(f"no frame of the video could be read at {at:g} s; ask for another time")
    moment = Timeline(graph).at(float(chunk.timestamps[0]))
    frame = Image.fromarray(chunk.frames[0])
    draw_moment(frame, moment, scale=scale)
    height = max(frame.height, _LEAST_HEIGHT)
    diagram = draw_diagram(moment, height=height, style=Style.of(height, height))
    picture = Image.new("RGB", (frame.width + diagram.width, diagram.height), _BACKGROUND)
    picture.paste(frame, (0, 0))
    picture.paste(diagram, (frame.width, 0))
    return picture

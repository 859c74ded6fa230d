"""The video that a graph was made of, read again in its own size."""

from __future__ import annotations

from models.graph.scene_graph import SceneGraph
from service.rendering.errors import RenderError
from service.video import Sampling, VideoInfo


def sampling(graph: SceneGraph, scale: int, *, fps: float, max_frames: int, start: float = 0.0) -> Sampling:
    """Frames `scale` times as large as the graph's video. Raises RenderError where no frame may be so large."""
    width, height = scale * graph.video.width, scale * graph.video.height
    try:
        return Sampling(fps=fps, max_frames=max_frames, height=height, width=width, start=start)
    except ValueError as error:
        raise RenderError(f"frames of {width}x{height} pixels cannot be drawn: {error}") from error


def check_belongs(graph: SceneGraph, info: VideoInfo) -> None:
    """Raises RenderError where the boxes of the graph are not pixels of this video."""
    stated = graph.video
    if (stated.width, stated.height) != (info.width, info.height):
        raise RenderError(
            f"the graph is of a video of {stated.width}x{stated.height} pixels, but this one has "
            f"{info.width}x{info.height}; give the video that it was made of, or make its graph with `vsg graph`"
        )

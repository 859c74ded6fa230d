"""Decoded frames as RGB of another size. Runs in the decoder process."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from av.filter import Graph
from numpy.typing import NDArray


class Scaler:
    """Stretches frames with FFmpeg's scale filter, as decord and the `ffmpeg` command do: to the bit what they make.

    PyAV's own `VideoFrame.reformat` places chroma differently.
    """

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._graph = Graph()

    def rgb(self, frame: Any, width: int, height: int) -> NDArray[np.uint8]:
        """A frame of PyAV as (height, width, 3) uint8."""
        # Setting a scaler up costs more than its use; but frames may change in the middle of a video.
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, width, height)
        if key != self._key:
            self._graph = _graph(frame, width, height)
            self._key = key
        self._graph.push(frame)
        return np.asarray(self._graph.pull().to_ndarray(), np.uint8)


def _graph(frame: Any, width: int, height: int) -> Graph:
    graph = Graph()
    graph.threads = 1
    # Scaling has no use for the unit of times, and the last frames of a decoder do not state theirs.
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))
    graph.link_nodes(
        source,
        graph.add("scale", f"{width}:{height}:flags=bicubic"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    )
    graph.configure()
    return graph

"""Writes small videos and things that are not videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np


def make_video(
    path: Path,
    *,
    seconds: float = 2.0,
    size: tuple[int, int] = (64, 48),
    rate: int = 10,
    codec: str = "libx264",
    brightness: Callable[[float], float] = lambda seconds: 0.6,
) -> Path:
    """Writes a video of plain grey frames.

    size        width and height in pixels
    rate        frames per second
    codec       encoder of FFmpeg; the suffix of `path` chooses the container
    brightness  of a frame, 0 to 1, by its time in seconds
    """
    width, height = size
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(round(seconds * rate)):
            grey = round(255 * brightness(index / rate))
            pixels = np.full((height, width, 3), grey, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def make_audio(path: Path, *, codec: str = "libmp3lame", seconds: float = 1.0) -> Path:
    """Writes a file with silence only; the suffix of `path` chooses the container."""
    rate = 44_100
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, int(rate * seconds)), np.float32), format="fltp", layout="mono")
        frame.rate = rate
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    return path


def make_png(path: Path) -> Path:
    """Writes a picture."""
    with av.open(path, "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    return path

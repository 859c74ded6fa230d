"""Writes small videos and things that are not videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def make_video(
    path: Path,
    *,
    seconds: float = 2.0,
    size: tuple[int, int] = (64, 48),
    rate: int = 10,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    pixel_shape: Fraction | None = None,
    brightness: Callable[[float], float] = lambda seconds: 0.6,
) -> Path:
    """Writes a video of plain grey frames.

    size: width and height in pixels.
    rate: frames per second.
    codec: encoder of FFmpeg. The suffix of `path` chooses the container.
    pixels: FFmpeg's pixel format.
    pixel_shape: width of a pixel by its height, when displayed; None where the video says nothing of it.
    brightness: gives the brightness of a frame, 0 to 1, at a time in seconds.
    """
    width, height = size
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if pixel_shape is not None:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        for index in range(round(seconds * rate)):
            grey = round(255 * brightness(index / rate))
            image = np.full((height, width, 3), grey, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_frames(path: Path, frames: Sequence[NDArray[np.uint8]], rate: int = 4) -> Path:
    """Writes a video of frames (H, W, 3) uint8 RGB, H.264."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def make_audio(path: Path, *, codec: str = "libmp3lame", seconds: float = 1.0) -> Path:
    """Writes a file that holds silence and no video; the suffix of `path` chooses the container."""
    rate = 44_100
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
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


def rotate(source: Path, path: Path, degrees: int, *, mirrored: bool = False) -> Path:
    """Copies a video with a rotation by `degrees` in its metadata, where it is also mirrored from left to right."""
    with av.open(source) as reader, av.open(path, "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        stream.set_display_rotation(degrees, hflip=mirrored)
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    return path


def add_sound(source: Path, path: Path, *, seconds: float = 2.0, codec: str = "aac", delay: float = 0.0) -> Path:
    """Copies a video and adds a tone; the suffix of `path` chooses the container.

    delay: seconds after the beginning of the sound at which the picture begins.
    """
    rate = 48_000
    tone = np.sin(np.arange(round(rate * seconds), dtype=np.float32) * 0.05, dtype=np.float32)[None]
    with av.open(source) as reader, av.open(path, "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        sound = writer.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(sound, av.AudioStream)
        for packet in reader.demux(video=0):
            if packet.dts is not None and packet.pts is not None and packet.time_base is not None:
                shift = round(delay / packet.time_base)
                packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
                packet.stream = stream
                writer.mux(packet)
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.rate = rate
        for packet in (*sound.encode(frame), *sound.encode()):
            writer.mux(packet)
    return path

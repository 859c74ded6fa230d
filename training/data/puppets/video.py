"""Writes videos of stories, and annotates any moment of them."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np

from training.data.puppets.relations import Box
from training.data.puppets.render import render
from training.data.puppets.story import RelatedThing, Story


@dataclass(frozen=True)
class Truth:
    """The annotation of one moment.

    time: in seconds.
    person_box: (x0, y0, x1, y1) in pixels.
    """

    time: float
    person_box: Box
    things: tuple[RelatedThing, ...]


def ground_truth(story: Story, times: Sequence[float]) -> list[Truth]:
    """Returns the annotation of each time; a thing keeps its `identity` throughout the story."""
    scenes = [story.scene(time) for time in times]
    return [Truth(time, scene.person_box, scene.things) for time, scene in zip(times, scenes, strict=True)]


def write_video(
    path: Path,
    story: Story,
    seconds: float,
    frame_rate: int = 24,
    rotation: Literal[0, 90, 180, 270] = 0,
    rate_factor: int = 20,
) -> None:
    """Writes the story as H.264 in MP4; frame n shows the scene at n / `frame_rate` seconds.

    rotation: degrees by which players turn the stored pixels clockwise, as a display matrix tells them; the pixels are
        turned the other way, as phones do, and a correct player shows the person upright in any case.
    rate_factor: x264's constant rate factor. Only 0, without loss, gives the same pixels every time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream(
            "libx264", rate=frame_rate, options={"crf": str(rate_factor), "preset": "veryfast"}
        )
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.time_base = Fraction(1, frame_rate)
        turned = rotation in (90, 270)
        size = (story.world.height, story.world.width) if turned else (story.world.width, story.world.height)
        stream.width, stream.height = size
        for index in range(round(seconds * frame_rate)):
            image = np.rot90(render(story.scene(index / frame_rate)), rotation // 90)  # counter-clockwise
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if rotation:
        _mark_rotation(path, rotation, size)


def _mark_rotation(path: Path, rotation: Literal[90, 180, 270], size: tuple[int, int]) -> None:
    """Writes a display matrix into the track header of an MP4 file, because PyAV cannot.

    size: stored width and height; the picture is moved back to the origin after it was turned.
    """
    width, height = size
    turns = {90: (0, 1, -1, 0, height, 0), 180: (-1, 0, 0, -1, width, height), 270: (0, -1, 1, 0, 0, width)}
    a, b, c, d, x, y = (value << 16 for value in turns[rotation])  # numbers with 16 binary digits after the point
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, x, y, 1 << 30)
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd", data.rindex(b"moov")) + 4
    start = header + (52 if data[header] == 1 else 40)  # version 1 has longer times
    data[start : start + len(matrix)] = matrix
    path.write_bytes(data)

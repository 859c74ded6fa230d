"""Makes videos whose frames carry their number, so that the tests see a wrong frame, not only a wrong time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from service.video import DecodeLimits, Sampling, VideoInfo, VideoReader
from service.video.processes import FORK_SERVER

BITS = 8
LIMITS = DecodeLimits(seconds=200.0, cpu_seconds=20)


@dataclass(frozen=True)
class Decoded:
    """All that was read of one video.

    numbers: those that the frames carry.
    warnings: codes.
    """

    info: VideoInfo
    timestamps: NDArray[np.float64]
    frames: NDArray[np.uint8]
    numbers: list[int]
    warnings: list[str]


@dataclass
class Clips:
    """Makes small videos in a folder and reads them back."""

    folder: Path
    width: int = 160
    height: int = 120
    made: dict[str, Path] = field(default_factory=dict)

    def card(self, number: int, width: int, height: int) -> NDArray[np.uint8]:
        """Draws the bits of the number above, the highest at the left; below red at the left and blue at the right."""
        image = np.zeros((height, width, 3), dtype=np.uint8)
        for bit in range(BITS):
            begin, end = width * bit // BITS, width * (bit + 1) // BITS
            image[: height // 2, begin:end] = 235 if number >> (BITS - 1 - bit) & 1 else 20
        image[height // 2 :, : width // 2] = (220, 30, 30)
        image[height // 2 :, width // 2 :] = (30, 60, 220)
        return image

    def number(self, frame: NDArray[np.uint8]) -> int:
        """Reads the number on a card of any size."""
        height, width = frame.shape[:2]
        row = frame[height // 4].mean(axis=1)
        bits = [row[int(width * (bit + 0.5) / BITS)] > 128 for bit in range(BITS)]
        return sum(int(on) << (BITS - 1 - bit) for bit, on in enumerate(bits))

    def make(
        self,
        name: str,
        times: NDArray[np.float64] | None = None,
        *,
        count: int = 90,
        rate: int = 30,
        codec: str = "libx264",
        pixels: str = "yuv420p",
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        rotation: int | None = None,
        matrix: tuple[int, int, int, int] | None = None,
        pixel: Fraction | None = None,
        unit: Fraction = Fraction(1, 90000),
    ) -> Path:
        """Writes a video of cards once, at `rate` or at `times` seconds. The suffix chooses the container.

        matrix: a, b, c and d of the display matrix.
        pixel: width of a pixel by its height.
        """
        if name in self.made:
            return self.made[name]
        path = self.folder / name
        if options is None:
            options = {"preset": "ultrafast", "g": "30", "bf": "2"} if codec == "libx264" else {}
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, pixels
            if rotation is not None:
                stream.set_display_rotation(rotation)
            if matrix is not None:
                a, b, c, d = (number << 16 for number in matrix)
                stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
            if pixel is not None:
                stream.codec_context.sample_aspect_ratio = pixel
            if times is not None:
                stream.codec_context.time_base = unit
            for index in range(count if times is None else len(times)):
                frame = av.VideoFrame.from_ndarray(self.card(index, self.width, self.height), format="rgb24")
                frame.time_base = unit if times is not None else Fraction(1, rate)
                frame.pts = index if times is None else round(times[index] / unit)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        self.made[name] = path
        return path

    def copy(self, source: Path, name: str, *, offset: float = 0.0, **container_options: str) -> Path:
        """Writes the packets of a video into another container, `offset` seconds later."""
        path = self.folder / name
        with av.open(str(source)) as reader, av.open(str(path), "w", options=container_options) as writer:
            stream = writer.add_stream_from_template(reader.streams.video[0])
            for packet in reader.demux(video=0):
                if packet.dts is None:
                    continue
                shift = round(offset / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                writer.mux(packet)
        return path

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def read(self, path: Path, limits: DecodeLimits = LIMITS, **sampling: Any) -> Decoded:
        """Reads all of a video."""
        options = {"fps": 5.0, "max_frames": 1000, "height": 96, "width": 128} | sampling
        timestamps, frames = [np.empty(0)], [np.empty((0, options["height"], options["width"], 3), dtype=np.uint8)]
        with VideoReader(path, Sampling(**options), limits) as reader:
            for chunk in reader:
                assert len(chunk.timestamps) == len(chunk.frames) <= limits.chunk_frames
                timestamps.append(chunk.timestamps)
                frames.append(chunk.frames)
        every = np.concatenate(frames)
        numbers = [self.number(frame) for frame in every]
        codes = [warning.code for warning in reader.warnings]
        return Decoded(reader.info, np.concatenate(timestamps), every, numbers, codes)

    def on_display(self, times: NDArray[np.float64], fps: float, end: float, start: float = 0.0) -> list[int]:
        """Finds the numbers of the frames on display at the sampling times, one time after the other."""
        asked = start + np.arange(int((end - start) * fps) + 2) / fps
        asked = asked[asked < end - 1e-6]
        return sorted({int(np.flatnonzero(times <= moment + 0.001)[-1]) for moment in asked})


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No process but the fork server and no file descriptor outlives a test."""
    FORK_SERVER.isolation_gaps()  # waits until the server runs; it tries things in processes of its own before
    this = psutil.Process()
    processes, descriptors = set(this.children(recursive=True)), this.num_fds()
    yield
    assert set(this.children(recursive=True)) <= processes
    assert this.num_fds() <= descriptors

"""Pictures are displayed as ffmpeg displays them, whatever the file says of turning, mirroring and pixels."""

from __future__ import annotations

import io
import shutil
import subprocess
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from service.video import EVERY_FRAME
from service.video.picture import Orientation, square_size
from tests.service.video.conftest import Clips, Decoded
from tests.service.video.test_reader import CONTAINERS, OPEN_GOPS

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="ffmpeg is not installed: tests/install-system-packages"
)
_EXIF_ORIENTATION = 0x0112
MATRICES = [matrix for x, y in product((1, -1), repeat=2) for matrix in ((x, 0, 0, y), (0, x, y, 0))]
# Videos that are decoded in each of the three ways.
WAYS: dict[str, dict[str, Any]] = {
    "by_stamp.mp4": {},
    "by_stamp.mkv": {},
    "by_stamp.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "by_number.mov": {"codec": "mpeg2video"},
    "as_a_whole.mp4": {"options": OPEN_GOPS},
}
# ffmpeg's own arithmetic for square pixels that loses none.
SQUARE = "scale=trunc(iw*max(1\\,sar)+0.5):trunc(ih/min(1\\,sar)+0.5)"


def ffmpeg(*arguments: str | Path) -> bytes:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def assert_is_ffmpegs(clips: Clips, path: Path) -> Decoded:
    """Asserts that all frames are as large as ffmpeg's and look like them."""
    pictures = clips.folder / f"{path.name}.pictures"
    pictures.mkdir(exist_ok=True)
    ffmpeg("-i", path, "-vf", SQUARE, pictures / "%03d.png")
    expected = np.stack([np.asarray(Image.open(picture).convert("RGB")) for picture in sorted(pictures.iterdir())])
    height, width = expected.shape[1:3]
    decoded = clips.read(path, fps=EVERY_FRAME, width=width, height=height)
    assert (decoded.info.width, decoded.info.height) == (width, height)
    assert decoded.frames.shape == expected.shape
    assert np.abs(decoded.frames.astype(int) - expected).mean() < 3
    return decoded


@needs_ffmpeg
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_every_display_matrix_is_applied(clips: Clips, way: str, matrix: tuple[int, int, int, int]) -> None:
    path = clips.make(f"{'_'.join(map(str, matrix))}_{way}", count=12, matrix=matrix, **WAYS[way])
    assert_is_ffmpegs(clips, path)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["ts", "mp4"])
@pytest.mark.parametrize(
    ("stated", "matrix"),
    [("90", (0, -1, 1, 0)), ("90:flip=horizontal", (0, 1, 1, 0)), ("0:flip=horizontal", (-1, 0, 0, 1))],
)
def test_an_orientation_in_the_stream_holds_for_all_frames(
    clips: Clips, suffix: str, stated: str, matrix: tuple[int, int, int, int]
) -> None:
    """H.264 states its orientation once, with the first picture."""
    source = clips.make("upright.mp4", count=12)
    path = clips.folder / f"stated_{matrix}.{suffix}"
    ffmpeg("-i", source, "-c", "copy", "-bsf:v", f"h264_metadata=display_orientation=insert:rotate={stated}", path)
    height, width = (160, 120) if matrix[1] else (120, 160)
    frames = clips.read(path, fps=EVERY_FRAME, height=height, width=width).frames
    upright = clips.read(source, fps=EVERY_FRAME, height=120, width=160).frames
    orientation = Orientation.of_matrix(*matrix)
    assert np.array_equal(frames, np.stack([orientation.apply(frame) for frame in upright]))


@needs_ffmpeg
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["mov", "avi"])
def test_the_orientation_of_a_cameras_pictures_is_applied(clips: Clips, suffix: str, orientation: int) -> None:
    picture = Image.fromarray(clips.card(5, 160, 120))
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = orientation
    content = io.BytesIO()
    picture.save(content, "JPEG", exif=exif, quality=95)
    path = clips.folder / f"camera_{orientation}.{suffix}"
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
        for index in range(5):
            packet = av.Packet(content.getvalue())
            packet.stream, packet.pts, packet.dts, packet.duration = stream, index, index, 1
            packet.is_keyframe, packet.time_base = True, Fraction(1, 10)
            container.mux(packet)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(content)))
    height, width = upright.shape[:2]
    frames = clips.read(path, fps=EVERY_FRAME, height=height, width=width).frames
    assert len(frames) == 5
    assert np.abs(frames.astype(int) - upright).mean() < 3


SHAPES = {"wide": Fraction(3, 2), "narrow": Fraction(2, 3), "pal": Fraction(64, 45), "ntsc": Fraction(8, 9)}
SHAPED: dict[str, dict[str, Any]] = {
    "shaped.mp4": {},
    "shaped.mkv": {},
    "shaped.ts": {},
    "shaped.flv": {},
    "shaped.avi": {"codec": "mpeg4"},
    "shaped.webm": CONTAINERS["live.webm"],
    "shaped.mpg": {"codec": "mpeg2video", "rate": 25},
}


@needs_ffmpeg
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SHAPED)
def test_pixels_that_are_not_square_become_square(clips: Clips, name: str, shape: str) -> None:
    path = clips.make(f"{shape}_{name}", count=12, pixel=SHAPES[shape], **SHAPED[name])
    assert_is_ffmpegs(clips, path)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_container_overrules_the_stream_about_the_shape_of_pixels(clips: Clips, suffix: str) -> None:
    source = clips.make(f"wide_shaped.{suffix}", count=12, pixel=Fraction(3, 2))
    path = clips.folder / f"disagreeing.{suffix}"
    ffmpeg("-i", source, "-c", "copy", "-bsf:v", "h264_metadata=sample_aspect_ratio=1/2", path)
    assert assert_is_ffmpegs(clips, path).info.width == 240


@needs_ffmpeg
@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (0, 1, 1, 0)], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_become_square_before_the_picture_is_turned(
    clips: Clips, shape: str, matrix: tuple[int, int, int, int]
) -> None:
    path = clips.make(f"{shape}_{matrix}.mp4", count=12, pixel=SHAPES[shape], matrix=matrix)
    assert_is_ffmpegs(clips, path)


@pytest.mark.parametrize(
    ("matrix", "same_as"),
    [
        ((-2.0, 0.0, 0.0, 1.0), (-1, 0, 0, 1)),
        ((0.0, 0.5, -3.0, 0.0), (0, 1, -1, 0)),
        ((1.0, 0.3, 0.0, 1.0), (1, 0, 0, 1)),
        ((0.17, 0.98, -0.98, 0.17), (0, 1, -1, 0)),
        ((0.0, 0.0, 0.0, 0.0), (1, 0, 0, 1)),
    ],
)
def test_other_matrices_count_as_the_nearest_of_the_eight(
    matrix: tuple[float, float, float, float], same_as: tuple[int, int, int, int]
) -> None:
    assert Orientation.of_matrix(*matrix) == Orientation.of_matrix(*same_as)


def test_a_matrix_takes_stored_points_to_displayed_points() -> None:
    """Where the matrix puts a stored pixel, the displayed picture has it, but for the translation."""
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    for a, b, c, d in MATRICES:
        orientation = Orientation.of_matrix(a, b, c, d)
        displayed = orientation.apply(stored)
        points = {(a * x + c * y, b * x + d * y): stored[y, x, 0] for y in range(3) for x in range(4)}
        left, top = min(x for x, _ in points), min(y for _, y in points)
        assert (displayed.shape[1], displayed.shape[0]) == orientation.size(4, 3)
        assert all(displayed[y - top, x - left, 0] == value for (x, y), value in points.items())


@pytest.mark.parametrize(
    ("pixel", "size"),
    [
        (Fraction(64, 45), (1024, 576)),
        (Fraction(16, 15), (768, 576)),
        (Fraction(8, 9), (720, 648)),
        (Fraction(1), (720, 576)),
        (Fraction(0), (720, 576)),
        (None, (720, 576)),
    ],
)
def test_the_short_side_of_a_pixel_is_enlarged(pixel: Fraction | None, size: tuple[int, int]) -> None:
    assert square_size(720, 576, pixel) == size


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_padded_frame_holds_the_whole_picture_in_its_shape(clips: Clips, way: str, turned: bool) -> None:
    matrix = (0, -1, 1, 0) if turned else None
    path = clips.make(f"padded_{turned}_{way}", count=12, matrix=matrix, **WAYS[way])
    frames = clips.read(path, fps=EVERY_FRAME, height=96, width=96, fit="pad").frames
    height, width = (96, 72) if turned else (72, 96)
    picture = clips.read(path, fps=EVERY_FRAME, height=height, width=width).frames
    assert np.array_equal(frames[:, :height, :width], picture)
    assert not frames[:, height:].any()
    assert not frames[:, :, width:].any()

from __future__ import annotations

import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from service.video import DecodeLimits, Sampling, VideoReader
from service.video.errors import RangeOutsideVideo

OPEN_GOPS = {"preset": "veryfast", "bf": "3", "x264-params": "open-gop=1:keyint=30:min-keyint=30:scenecut=0"}
CONTAINERS: dict[str, dict[str, Any]] = {
    "constant.mp4": {},
    "constant.mov": {},
    "constant.mkv": {},
    "constant.flv": {},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    # As browsers record: neither a duration nor an index.
    "live.webm": {
        "codec": "libvpx",
        "options": {"deadline": "realtime", "cpu-used": "8", "g": "30"},
        "container_options": {"live": "1"},
    },
    "transport_h264.ts": {},
    "transport_mpeg2.ts": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "program.mpg": {"codec": "mpeg2video", "rate": 25, "options": {"g": "12", "bf": "2"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "reordered_mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "reordered_h264.avi": {},
    "jpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "intra.mov": {"codec": "mpeg4", "options": {"g": "1"}},
    "open_gops_h264.mp4": {"options": OPEN_GOPS},
    "open_gops_h265.mp4": {
        "codec": "libx265",
        "options": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=30:bframes=3:open-gop=1"},
    },
    "animated.gif": {"codec": "gif", "pixels": "rgb8", "rate": 10, "count": 40},
}


@pytest.mark.parametrize("fps", [0.9, 5.0, 60.0])
@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_frames_on_display(clips: Any, name: str, fps: float) -> None:
    options = CONTAINERS[name]
    rate, count = options.get("rate", 30), options.get("count", 90)
    video = clips.read(clips.make(name, **options), fps=fps)
    times = np.arange(count) / rate
    expected = clips.on_display(times, fps, end=count / rate)
    assert video.numbers == expected
    assert video.timestamps == pytest.approx(times[expected], abs=0.0011)
    assert video.info.duration == pytest.approx(count / rate, abs=0.05)
    assert video.info.frame_rate == pytest.approx(rate, rel=0.02)
    assert (video.info.width, video.info.height) == (clips.width, clips.height)
    assert video.warnings == []


@pytest.fixture(scope="module")
def irregular() -> NDArray[np.float64]:
    """Times of frames that are on display for 10 to 400 ms."""
    return np.concatenate([[0.0], np.cumsum(np.random.default_rng(3).uniform(0.01, 0.4, 79))])


@pytest.mark.parametrize(
    ("name", "unit"),
    [("variable.mp4", Fraction(1, 90000)), ("variable.mkv", Fraction(1, 1000)), ("variable.ts", Fraction(1, 90000))],
)
@pytest.mark.parametrize("fps", [0.7, 5.0, 60.0])
def test_variable_frame_rates_give_the_frames_on_display(
    clips: Any, irregular: NDArray[np.float64], name: str, unit: Fraction, fps: float
) -> None:
    path = clips.make(name, irregular, unit=unit)
    with av.open(str(path)) as container:
        times = np.array([frame.time for frame in container.decode(video=0)])
    times -= times[0]
    assert times == pytest.approx(irregular, abs=0.001)
    video = clips.read(path, fps=fps)
    assert video.info.duration is not None
    assert video.numbers == clips.on_display(times, fps, end=video.info.duration)
    assert video.timestamps == pytest.approx(times[video.numbers], abs=6e-5)


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_time_counts_from_the_first_frame(clips: Any, name: str) -> None:
    video = clips.read(clips.copy(clips.make("constant.mp4"), name, offset=2.5))
    assert video.timestamps == pytest.approx(np.arange(15) / 5, abs=0.0011)
    assert video.numbers == list(range(0, 90, 6))


def test_frames_before_an_edit_list_are_left_out(clips: Any) -> None:
    """A cut without encoding leaves packets from before the cut, which are decoded but not shown."""
    path = clips.copy(clips.make("constant.mp4"), "cut.mp4", offset=-0.5)
    with av.open(str(path)) as container:
        truth = [clips.number(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert truth[0] > 0, "the file has no edit list"
    video = clips.read(path, fps=60.0)
    assert video.numbers == truth
    assert video.timestamps == pytest.approx(np.arange(len(truth)) / 30, abs=1e-4)


@pytest.mark.parametrize("name", ["constant.mp4", "constant.mkv", "reordered_mpeg4.avi", "transport_h264.ts"])
def test_sampling_at_the_videos_own_rate_gives_every_frame_once(clips: Any, name: str) -> None:
    assert clips.read(clips.make(name, **CONTAINERS[name]), fps=30.0).numbers == list(range(90))


@pytest.mark.parametrize("name", ["constant.mp4", "transport_h264.ts"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.5, 1.5), (1.21, 2.0), (2.0, 99.0), (0.0, 0.01)])
def test_a_range_gives_only_its_frames(clips: Any, name: str, start: float, end: float) -> None:
    video = clips.read(clips.make(name), fps=10.0, start=start, end=end)
    assert video.numbers == clips.on_display(np.arange(90) / 30, 10.0, start=start, end=min(end, 3.0))


@pytest.mark.parametrize("name", ["constant.mp4", "transport_h264.ts", "reordered_h264.avi"])
def test_a_range_after_the_end_is_refused(clips: Any, name: str) -> None:
    with pytest.raises(RangeOutsideVideo, match=r"start is 3.5 s, but the video ends at 3.0\d s"):
        clips.read(clips.make(name), start=3.5)


@pytest.mark.parametrize("name", ["constant.mp4", "transport_h264.ts"])
def test_more_than_max_frames_are_left_out_with_a_warning(clips: Any, name: str) -> None:
    path = clips.make(name)
    exact = clips.read(path, fps=5.0, max_frames=15)
    assert exact.warnings == []
    short = clips.read(path, fps=5.0, max_frames=7)
    assert short.numbers == exact.numbers[:7]
    assert short.warnings == ["max_frames_reached"]


@pytest.mark.parametrize("name", ["constant.mp4", "transport_h264.ts"])
def test_chunks_do_not_change_the_frames(clips: Any, name: str) -> None:
    path = clips.make(name)
    whole = clips.read(path)
    pieces = clips.read(path, DecodeLimits(chunk_frames=4))
    assert np.array_equal(whole.frames, pieces.frames)
    assert np.array_equal(whole.timestamps, pieces.timestamps)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("options", [{}, {"options": OPEN_GOPS}], ids=["decord", "pyav"])
def test_rotation_is_applied(clips: Any, rotation: int, options: dict[str, Any]) -> None:
    name = f"rotated_{rotation}_{len(options)}.mp4"
    path = clips.make(name, rotation=rotation, **options)
    side, other = (clips.height, clips.width) if rotation % 180 else (clips.width, clips.height)
    video = clips.read(path, width=side, height=other)
    assert (video.info.width, video.info.height) == (side, other)
    # The display matrix turns the stored picture counterclockwise.
    for frame, number in zip(video.frames, range(0, 90, 6), strict=True):
        upright = np.rot90(clips.card(number, clips.width, clips.height), rotation // 90)
        assert np.abs(frame.astype(int) - upright).mean() < 6


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("limited_decord.mp4", {}),
        ("limited_pyav.ts", {}),
        ("full_decord.mp4", {"pixels": "yuvj420p"}),
        ("full_pyav.ts", {"pixels": "yuvj420p"}),
        ("ten_bits_decord.mp4", {"pixels": "yuv420p10le"}),
        ("ten_bits_pyav.ts", {"pixels": "yuv420p10le"}),
        ("every_chroma.mp4", {"pixels": "yuv444p"}),
    ],
)
def test_colours_are_right_in_every_pixel_format(clips: Any, name: str, options: dict[str, Any]) -> None:
    frames = clips.read(clips.make(name, count=6, **options)).frames.astype(float)
    height, width = frames.shape[1:3]
    assert frames[0, -height // 4, width // 4] == pytest.approx([220, 30, 30], abs=8)
    assert frames[0, -height // 4, -width // 4] == pytest.approx([30, 60, 220], abs=8)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv420p10le"])
def test_every_way_of_decoding_gives_the_same_pixels(clips: Any, pixels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One container is decoded in part, the other, with the same packets, as a whole; decord is the third way."""
    monkeypatch.setitem(sys.modules, "nvidia", None)  # decord would load all its libraries
    import decord

    source = clips.make(f"same_{pixels}.mp4", pixels=pixels)
    frames = clips.read(source).frames
    other = clips.read(clips.copy(source, f"same_{pixels}.ts")).frames
    assert np.array_equal(frames, other)
    reference = decord.VideoReader(str(source), width=128, height=96).get_batch(range(0, 90, 6)).asnumpy()
    assert np.array_equal(frames, reference)


def test_a_video_of_one_pixel_is_read(clips: Any) -> None:
    path = clips.folder / "one_pixel.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width = stream.height = 1
        stream.pix_fmt = "yuv444p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((1, 1, 3), 200, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    video = clips.read(path)
    assert video.timestamps.tolist() == [0.0, 1.0, 2.0]
    assert np.abs(video.frames.astype(int) - 200).max() < 8


@pytest.mark.parametrize("name", ["two.mp4", "two.mkv", "two.ts"])
def test_two_video_streams_take_the_default_one(clips: Any, name: str) -> None:
    path = clips.folder / name
    with av.open(str(path), "w") as container:
        streams = []
        for width, height in ((64, 48), (160, 120)):
            stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for index in range(10):
            for offset, stream in zip((0, 100), streams, strict=True):
                card = clips.card(index + offset, stream.width, stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(card, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    with av.open(str(path)) as container:
        best = container.streams.best("video")
        offset = 100 * best.index
        size = (best.width, best.height)
    video = clips.read(path)
    assert video.warnings == ["several_video_streams"]
    assert (video.info.width, video.info.height) == size
    assert video.numbers == [offset, offset + 2, offset + 4, offset + 6, offset + 8]


def add_pictures(source: Path, path: Path, count: int, *, attached: bool, first: bool) -> Path:
    """Copies a video and adds a video stream of `count` pictures: an attached cover, or a plain stream."""
    with av.open(source) as reader, av.open(path, "w") as writer:
        made: list[Any] = []
        for kind in ("cover", "video") if first else ("video", "cover"):
            if kind == "video":
                video = writer.add_stream_from_template(reader.streams.video[0])
                continue
            cover = writer.add_stream("mjpeg", rate=10)
            cover.width = cover.height = 32
            cover.pix_fmt = "yuvj420p"
            if attached:
                cover.disposition = Disposition.attached_pic
        for _ in range(count):
            made += cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24"))
        for packet in [*made, *cover.encode()]:
            packet.stream = cover
            writer.mux(packet)
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                writer.mux(packet)
    return path


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize(("suffix", "attached"), [("mp4", True), ("mp4", False), ("mov", False), ("mkv", False)])
def test_a_cover_picture_is_no_second_video(clips: Any, suffix: str, attached: bool, first: bool) -> None:
    source = clips.make("constant.mp4")
    path = add_pictures(source, clips.folder / f"covered.{suffix}", 1, attached=attached, first=first)
    video = clips.read(path)
    assert video.numbers == clips.read(source).numbers
    assert video.warnings == []
    moving = add_pictures(source, clips.folder / f"twice.{suffix}", 20, attached=False, first=first)
    assert clips.read(moving).warnings == ["several_video_streams"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed: tests/install-system-packages")
@pytest.mark.parametrize("kind", ["image/jpeg", "font/ttf"])
def test_an_attachment_is_no_second_video(clips: Any, kind: str) -> None:
    attachment = clips.write("attachment.jpg", b"\xff\xd8\xff" + bytes(500))
    path = clips.folder / "attached.mkv"
    command = ["ffmpeg", "-v", "error", "-y", "-i", clips.make("constant.mp4"), "-c", "copy", "-attach", attachment]
    subprocess.run([*command, "-metadata:s:t", f"mimetype={kind}", path], check=True, timeout=60)
    video = clips.read(path)
    assert video.numbers == list(range(0, 90, 6))
    assert video.warnings == []


def test_information_is_there_before_the_first_frame(clips: Any) -> None:
    with VideoReader(clips.make("constant.mp4"), Sampling(fps=2.0, max_frames=5, height=8, width=8)) as reader:
        assert reader.info.codec == "h264"
        assert reader.info.duration == pytest.approx(3.0)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), VideoReader(tmp_path / "absent.mp4", Sampling(2.0, 5, 8, 8)):
        pass

"""Damaged files, files that are no videos, and files that mean harm."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from service.errors import EmptyUpload, ServiceError
from service.video import DecodeLimits
from service.video.errors import (
    DecodeMemory,
    DecodeTimeout,
    NoVideoStream,
    UnsupportedMedia,
    VideoError,
    VideoTooLarge,
    VideoUnreadable,
)

# Processor time, not the clock: other work may have the processor.
FEW_SECONDS = DecodeLimits(seconds=200.0, cpu_seconds=5)


def half(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: len(content) // 2]


def test_an_empty_file_is_refused(clips: Any) -> None:
    with pytest.raises(EmptyUpload):
        clips.read(clips.write("empty.mp4", b""))


def test_a_folder_is_refused(clips: Any) -> None:
    with pytest.raises(UnsupportedMedia, match="not a regular file"):
        clips.read(clips.folder)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"these are words, not pictures\n" * 40, "text"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(500), "an MP3"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
    ],
)
def test_other_files_named_mp4_are_refused(clips: Any, content: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match=f"looks like {name}"):
        clips.read(clips.write("other.mp4", content))


@pytest.mark.parametrize(
    ("playlist", "name"),
    [
        ("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{neighbour}\n#EXT-X-ENDLIST\n", "an HLS playlist"),
        ("ffconcat version 1.0\nfile {neighbour}\n", "a list of files to join"),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "ffconcat"])
def test_playlists_do_not_open_their_neighbours(clips: Any, playlist: str, name: str, suffix: str) -> None:
    neighbour = clips.make("constant.ts")
    content = playlist.format(neighbour=neighbour.name).encode()
    with pytest.raises(UnsupportedMedia, match=name):
        clips.read(clips.write(f"playlist.{suffix}", content))


def test_the_name_does_not_choose_the_demuxer(clips: Any) -> None:
    content = clips.make("constant.mp4").read_bytes()
    assert len(clips.read(clips.write("video.m3u8", content)).numbers) == 15


@pytest.mark.parametrize("name", ["sound.mp4", "sound.mkv", "sound.ts"])
def test_a_file_with_sound_only_is_refused(clips: Any, name: str) -> None:
    path = clips.folder / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(NoVideoStream):
        clips.read(path)


def test_a_gif_that_does_not_move_is_refused(clips: Any) -> None:
    path = clips.make("still.gif", codec="gif", pixels="rgb8", rate=10, count=1)
    with pytest.raises(UnsupportedMedia, match="does not move"):
        clips.read(path)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("index_first.mp4", {"container_options": {"movflags": "faststart"}}),
        ("constant.mkv", {}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
    ],
)
def test_a_file_that_ends_early_gives_what_is_there(clips: Any, source: str, options: dict[str, Any]) -> None:
    path = clips.write(f"half_{source}", half(clips.make(source, **options)))
    video = clips.read(path)
    assert 4 <= len(video.numbers) <= 11
    assert video.numbers == list(range(0, 6 * len(video.numbers), 6))
    assert "video_truncated" in video.warnings


def test_a_transport_stream_may_begin_and_end_anywhere(clips: Any) -> None:
    content = clips.make("constant.ts").read_bytes()
    packets = len(content) // 188
    video = clips.read(clips.write("excerpt.ts", content[188 * (packets // 10) : 188 * (packets * 9 // 10)]))
    assert len(video.numbers) >= 5
    assert np.all(np.diff(video.numbers[1:]) == 6)


def test_a_missing_index_is_refused(clips: Any) -> None:
    with pytest.raises(VideoUnreadable, match="headers"):
        clips.read(clips.write("no_index.mp4", half(clips.make("constant.mp4"))))


def test_frames_that_are_all_zero_bytes_are_refused(clips: Any) -> None:
    content = bytearray(clips.make("constant.mp4").read_bytes())
    begin = content.index(b"mdat") + 4
    (size,) = struct.unpack(">I", content[begin - 8 : begin - 4])
    content[begin : begin + size - 8] = bytes(size - 8)
    with pytest.raises(VideoUnreadable, match="not one frame"):
        clips.read(clips.write("zero.mp4", bytes(content)))


def test_frames_around_a_broken_packet_are_taken_with_a_warning(clips: Any) -> None:
    """decord stops there. PyAV goes on after the last frame of decord, and takes no frame twice."""
    path = clips.make("constant.mp4")
    with av.open(str(path)) as container:
        broken = [packet for packet in container.demux(video=0) if packet.pts is not None][45]
        begin, size = broken.pos, broken.size
    content = bytearray(path.read_bytes())
    content[begin : begin + size] = b"\xff" * size
    video = clips.read(clips.write("broken.mp4", bytes(content)), DecodeLimits(chunk_frames=4), fps=30.0)
    assert np.all(np.diff(video.timestamps) > 0)
    assert video.numbers[:40] == list(range(40))
    assert video.numbers[-20:] == list(range(70, 90))
    assert video.warnings == ["video_damaged"]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["constant.mp4", "constant.mkv", "constant.ts", "mpeg4.avi"])
def test_flipped_bits_give_frames_or_an_error_of_ours(clips: Any, name: str, seed: int) -> None:
    content = np.frombuffer(clips.make(name).read_bytes(), dtype=np.uint8).copy()
    generator = np.random.default_rng(seed)
    where = generator.integers(16, len(content), 40)
    content[where] ^= (1 << generator.integers(0, 8, 40)).astype(np.uint8)
    try:
        video = clips.read(clips.write(f"flipped_{name}", content.tobytes()), fps=30.0)
    except VideoError as error:
        assert_is_presentable(error, clips)
    else:
        assert np.all(np.diff(video.timestamps) > 0)


def test_huge_frames_are_refused_before_they_are_decoded(clips: Any) -> None:
    content = bytearray(clips.make("animated.gif", codec="gif", pixels="rgb8", rate=10, count=40).read_bytes())
    content[6:10] = struct.pack("<HH", 12000, 12000)
    with pytest.raises(VideoTooLarge, match="12000x12000"):
        clips.read(clips.write("huge.gif", bytes(content)), FEW_SECONDS)


@pytest.mark.parametrize("side", [32768, 65535])
def test_frames_beyond_what_codecs_take_are_refused(clips: Any, side: int) -> None:
    content = bytearray(clips.make("animated.gif", codec="gif", pixels="rgb8", rate=10, count=40).read_bytes())
    content[6:10] = struct.pack("<HH", side, side)
    with pytest.raises(VideoError):
        clips.read(clips.write("absurd.gif", bytes(content)))


def test_the_limit_on_pixels_is_kept(clips: Any) -> None:
    with pytest.raises(VideoTooLarge, match="160x120 pixels; at most 10000"):
        clips.read(clips.make("constant.mp4"), DecodeLimits(max_pixels=10_000))


def test_frames_that_are_larger_than_declared_are_refused(clips: Any) -> None:
    content = bytearray(clips.make("jpeg.avi", codec="mjpeg", pixels="yuvj420p").read_bytes())
    position = content.find(b"\xff\xc0")
    while position > 0:
        content[position + 5 : position + 9] = struct.pack(">HH", 32768, 32768)
        position = content.find(b"\xff\xc0", position + 2)
    with pytest.raises(VideoError):
        clips.read(clips.write("larger.avi", bytes(content)))


def test_a_billion_declared_times_do_not_change_the_frames(clips: Any) -> None:
    content = bytearray(clips.make("constant.mp4").read_bytes())
    begin = content.index(b"stts")
    content[begin + 12 : begin + 16] = struct.pack(">I", 10**9)
    assert clips.read(clips.write("billion_times.mp4", bytes(content)), FEW_SECONDS).numbers == list(range(0, 90, 6))


@pytest.mark.parametrize("table", ["stss", "ctts", "stsc", "stsz"])
def test_a_billion_declared_frames_are_refused(clips: Any, table: str) -> None:
    content = bytearray(clips.make("constant.mp4").read_bytes())
    begin = content.index(table.encode())
    billion = struct.pack(">I", 10**9)
    if table == "stsz":
        content[begin + 8 : begin + 16] = struct.pack(">I", 1) + billion
    else:
        content[begin + 8 : begin + 12] = billion
    with pytest.raises((VideoUnreadable, DecodeMemory)):
        clips.read(clips.write("billion.mp4", bytes(content)), FEW_SECONDS)


def repeat_picture(path: Path, side: int, pixels: str, count: int) -> Path:
    """Writes one empty picture `count` times: small to send, long to decode."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, pixels
        picture = av.VideoFrame(side, side, pixels)
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        picture.pts = 0
        (packet,) = stream.encode(picture)
        content = bytes(packet)
        for index in range(count):
            copy = av.Packet(content)
            copy.stream, copy.pts, copy.dts, copy.is_keyframe = stream, index, index, True
            container.mux(copy)
    return path


def test_the_limit_on_processor_time_is_kept(clips: Any) -> None:
    path = repeat_picture(clips.folder / "long.avi", 4000, "yuvj420p", 400)
    with pytest.raises(DecodeTimeout, match="1 s of processor time"):
        clips.read(path, DecodeLimits(cpu_seconds=1), fps=25.0)


def test_the_limit_on_memory_is_kept(clips: Any) -> None:
    path = repeat_picture(clips.folder / "large.avi", 8192, "yuvj444p", 8)
    # Every thread holds a picture of 200 MB.
    limits = DecodeLimits(memory_bytes=512 * 2**20, max_pixels=8192 * 8192, threads=4)
    with pytest.raises(DecodeMemory, match="512 MiB"):
        clips.read(path, limits, fps=25.0)


def assert_is_presentable(error: ServiceError, clips: Any) -> None:
    """Asserts that the detail, which callers see, holds no path, no trace and no name of a library."""
    for secret in (str(clips.folder), "/", "Traceback", "decord", "PyAV", "ffmpeg", "libav"):
        assert secret not in error.detail

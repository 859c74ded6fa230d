"""Files that are wrong about their times, or that begin late, or in the middle."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from service.video import Sampling, VideoReader
from service.video.errors import RangeOutsideVideo
from tests.service.video.conftest import Clips
from tests.support.paths import ROOT

PUPPETS = ROOT / "docs" / "puppets.mp4"
EVERY: dict[str, Any] = {"fps": 30.0}
NO_REORDERING = {"preset": "ultrafast", "g": "30", "bf": "0"}


def damaged(clips: Clips, source: Path, name: str, shift: Callable[[int], float]) -> Path:
    """Copies a video whose `n`th stored frame is stamped `shift(n)` seconds later."""
    path = clips.folder / name
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for number, packet in enumerate(reader.demux(video=0)):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            packet.pts += round(shift(number) / packet.time_base)
            packet.stream = stream
            writer.mux(packet)
    return path


def joined(clips: Clips, name: str, *parts: Path) -> Path:
    return clips.write(name, b"".join(part.read_bytes() for part in parts))


def ffmpeg(*arguments: str | Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed; tests/install-system-packages does that")
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.mark.parametrize("seconds", [10.0, 1800.0, 7200.0])
@pytest.mark.parametrize(
    # An MP4 whose first frame is late has an edit list that leaves out all others: `ffmpeg` shows none either.
    ("suffix", "place"),
    [("mkv", 0), *[(suffix, place) for suffix in ("mkv", "mp4") for place in (1, 45, 88, 89)]],
)
def test_a_frame_that_is_stamped_too_late_is_repaired(clips: Clips, suffix: str, place: int, seconds: float) -> None:
    source = clips.make("without_b.mp4", options=NO_REORDERING)
    path = damaged(clips, source, f"late_{place}_{seconds:g}.{suffix}", lambda number: seconds * (number == place))
    video = clips.read(path, **EVERY)
    assert video.numbers == list(range(90))
    assert video.timestamps == pytest.approx(np.arange(90) / 30, abs=0.0011)
    assert video.info.duration == pytest.approx(3.0, abs=0.002)
    assert video.info.frame_rate == pytest.approx(30, rel=0.001)
    assert video.warnings == ["timestamps_repaired"]


@pytest.mark.parametrize("seconds", [0.1, 0.25, 20.0])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_frame_among_reordered_ones_is_repaired_too(clips: Clips, suffix: str, seconds: float) -> None:
    for place in (30, 41, 42, 43):
        name = f"reordered_{place}_{seconds:g}.{suffix}"
        path = damaged(clips, clips.make("constant.mp4"), name, lambda number, at=place: seconds * (number == at))
        video = clips.read(path, **EVERY)
        assert video.numbers == list(range(90))
        assert video.timestamps == pytest.approx(np.arange(90) / 30, abs=0.0011)
        assert video.info.duration == pytest.approx(3.0, abs=0.002)
        assert video.warnings == ["timestamps_repaired"]


def test_a_pause_of_over_an_hour_is_kept(clips: Clips) -> None:
    times = np.concatenate([np.arange(30) / 30, 5000 + np.arange(30) / 30])
    for name in ("pause.mp4", "pause.mkv"):
        video = clips.read(clips.make(name, times), **EVERY)
        assert video.numbers == list(range(60))
        assert video.timestamps == pytest.approx(times, abs=0.0011)
        assert video.info.duration == pytest.approx(5001.0, abs=0.05)
        assert video.warnings == []


def test_packets_lost_before_a_pause_shift_nothing(clips: Clips) -> None:
    times = np.concatenate([np.arange(45) / 30, 20 + np.arange(45) / 30])
    path = clips.make("pause_after_loss.ts", times, options=NO_REORDERING)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        lost = [packet for packet in container.demux(video=0) if packet.pts is not None][40]
    begin = lost.pos // 188 * 188
    del content[begin : begin + 188]
    video = clips.read(clips.write("lost.ts", bytes(content)), **EVERY)
    assert video.timestamps[-1] == pytest.approx(times[-1], abs=0.0011)
    assert video.info.duration == pytest.approx(times[-1] + 1 / 30, abs=0.04)
    true = times[video.numbers]
    assert np.mean(np.abs(video.timestamps - true) < 1 / 60) > 0.9


@pytest.mark.parametrize("parts", [2, 3])
def test_recordings_one_after_the_other_add_up(clips: Clips, parts: int) -> None:
    one = clips.make("constant.ts")
    video = clips.read(joined(clips, f"{parts}_parts.ts", *[one] * parts), **EVERY)
    assert video.info.duration == pytest.approx(3.0 * parts, abs=0.01)
    assert video.numbers == list(range(90)) * parts
    assert video.timestamps == pytest.approx(np.arange(90 * parts) / 30, abs=0.0011)
    assert video.warnings == ["timestamps_repaired"]


@pytest.mark.parametrize("offset", [1000.0, 20_000.0])
def test_a_recording_with_a_later_or_an_earlier_clock_is_added(clips: Clips, offset: float) -> None:
    one = clips.make("constant.ts")
    late = clips.copy(one, f"clock_{offset:g}.ts", offset=offset)
    for name, parts in ((f"earlier_{offset:g}.ts", (late, one)), (f"later_{offset:g}.ts", (one, late))):
        video = clips.read(joined(clips, name, *parts), **EVERY)
        if parts[0] == one and offset < 3600:
            assert video.info.duration == pytest.approx(offset + 3.0, abs=0.1), "a pause"
        else:
            assert video.info.duration == pytest.approx(6.0, abs=0.01)
        assert video.numbers == [*range(90), *range(90)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv"])
def test_the_players_time_of_the_first_frame_is_told(clips: Clips, suffix: str) -> None:
    on_time = clips.make(f"constant.{suffix}")
    assert clips.read(on_time).info.start == pytest.approx(0.0, abs=0.07)  # the frames that are stored before it
    late = clips.copy(clips.make("constant.mp4"), f"begins_late.{suffix}", offset=2.5)
    video = clips.read(late)
    assert video.info.start == pytest.approx(2.5, abs=0.07)
    assert video.timestamps[0] == 0.0
    assert video.warnings == []


def test_a_players_clock_of_a_transport_stream_begins_with_its_sound(clips: Clips) -> None:
    path = clips.folder / "picture_after_sound.ts"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=14", "-itsoffset", "3", "-i", PUPPETS, "-map", "1", "-map", "0",
           "-c:v", "copy", "-c:a", "aac", path)  # fmt: skip
    video = clips.read(path)
    assert video.info.start == pytest.approx(3.0, abs=0.05)
    assert video.info.duration == pytest.approx(10.0, abs=0.01)


def test_segments_whose_times_go_on_are_whole(clips: Clips) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=9", "-c:v", "libx264", "-g", "25", "-f", "segment",
           "-segment_time", "3", clips.folder / "segment%d.mkv")  # fmt: skip
    for number in range(3):
        video = clips.read(clips.folder / f"segment{number}.mkv", fps=25.0)
        assert video.warnings == []
        assert len(video.timestamps) == 75
        assert video.info.start == pytest.approx(3.0 * number, abs=0.1)
        assert video.info.duration == pytest.approx(3.0, abs=0.002)


def test_a_segment_that_is_cut_off_is_said_to_be(clips: Clips) -> None:
    late = clips.copy(clips.make("constant.mp4"), "cut_segment.mkv", offset=2.5)
    content = late.read_bytes()
    video = clips.read(clips.write("half_segment.mkv", content[: len(content) // 2]))
    assert "video_truncated" in video.warnings


@pytest.fixture(scope="module")
def long_group(clips: Clips) -> Path:
    """A transport stream without its first sixth, whose groups are 4 s long."""
    path = clips.folder / "long_groups.ts"
    ffmpeg(
        "-i", PUPPETS, "-c:v", "libx264", "-g", "96", "-sc_threshold", "0", "-f", "mpegts", "-pat_period", "0.1", path
    )
    content = path.read_bytes()
    return clips.write("begins_in_a_group.ts", content[len(content) // 188 // 6 * 188 :])


def test_a_beginning_that_cannot_be_decoded_is_named_and_does_not_count(clips: Clips, long_group: Path) -> None:
    video = clips.read(long_group, fps=24.0)
    assert video.info.duration == pytest.approx(6.0, abs=0.001)
    assert len(video.timestamps) == 144
    assert (video.timestamps[0], video.timestamps[-1]) == (0.0, pytest.approx(143 / 24, abs=1e-4))
    assert video.warnings == ["beginning_undecodable"]
    assert video.info.start == pytest.approx(2.7, abs=0.1)


@pytest.mark.parametrize("start", [6.5, 7.0, 9.0])
def test_every_start_after_the_end_names_the_same_end(clips: Clips, long_group: Path, start: float) -> None:
    with pytest.raises(RangeOutsideVideo, match=r"the video ends at 6\.00 s"):
        clips.read(long_group, start=start)


def test_what_cannot_be_decoded_at_the_beginning_is_left_out_of_a_matroska_too(clips: Clips, long_group: Path) -> None:
    path = clips.folder / "begins_in_a_group.mkv"
    ffmpeg("-i", long_group, "-c", "copy", "-copyinkf", path)
    video = clips.read(path, fps=24.0)
    assert video.info.duration == pytest.approx(6.0, abs=0.01)
    assert len(video.timestamps) == 144
    assert video.warnings == ["beginning_undecodable"]


@pytest.mark.parametrize("name", ["constant.mp4", "constant.ts", "mpeg4.avi", "begins_in_a_group.ts"])
def test_as_many_frames_come_as_were_expected(clips: Clips, name: str, long_group: Path) -> None:
    path = long_group if name == long_group.name else clips.make(name, **({"codec": "mpeg4"} if "avi" in name else {}))
    for sampling in (
        {"fps": 60.0},
        {"fps": 7.0},
        {"fps": 2.0, "start": 1.2, "end": 2.3},
        {"fps": 10.0, "max_frames": 4},
    ):
        options: dict[str, Any] = {"max_frames": 1000, "height": 8, "width": 8} | sampling
        with VideoReader(path, Sampling(**options)) as reader:
            assert sum(len(chunk.timestamps) for chunk in reader) == reader.expected

"""Dumping videos, on videos written here; the numbers of frames are compared with ffmpeg's where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from service.command_line import main
from tests.support.annotated import person, thing, write
from tests.support.paths import ROOT
from tests.support.videos import make_audio
from training.data import frame_dump
from training.data.action_genome import load_action_genome
from training.data.check import check_data
from training.data.frame_dump import dump_frames, numbered_frames
from training.data.puppets.story import make_story
from training.data.puppets.video import write_video
from training.data.puppets.world import EASY
from training.errors import DataError

SIZE = (64, 48)
RATE = 30
DARKEST, STEP = 50, 5
"""Mean level of the first frame, and from one frame to the next."""

IN_TIME = list(range(24))
LATE = [0, 1, 2, 6, 7, 8, 13, 14, 15, 16]
SHAKY = [0, 9, 22, 29, 38, 52, 61, 69, 78, 93]
"""Tenths of a frame."""
LATE_AT_THE_END = [*range(6), 9, 12, 15, 18]
BURST = [*range(0, 100, 10), *range(100, 110), *range(110, 210, 10)]
"""Tenths of a frame: in the middle ten frames come in the time of one."""


def make_video(
    path: Path, times: list[int], *, unit: Fraction = Fraction(1, RATE), sound: bool = False, reorder: bool = False
) -> Path:
    """Striped frames that are shown at multiples of `unit` seconds, each lighter than the one before; H.264 in MP4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = np.where(np.arange(SIZE[0])[:, None] // 3 % 2, (40, 0, -40), (-40, 20, 20))  # (W, 3), 0 on average
    with av.open(str(path), "w") as container:
        options = {"bf": "3", "b_strategy": "0"} if reorder else {"bf": "0"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height = SIZE
        stream.thread_count = 1
        stream.codec_context.time_base = unit
        audio = container.add_stream("aac", rate=44_100) if sound else None
        for index, time in enumerate(times):
            pixels = np.broadcast_to(DARKEST + STEP * index + stripes, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            silence = np.zeros((1, int(44_100 * times[-1] * unit)), np.float32)
            sample = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            sample.rate, sample.pts = 44_100, 0
            container.mux(audio.encode(sample))
            container.mux(audio.encode())
    return path


def shown(path: Path) -> list[int]:
    """Which frame each number shows."""
    pictures = [(number, frame.to_ndarray(format="rgb24")) for number, frame in numbered_frames(path)]
    assert [number for number, _ in pictures] == list(range(1, len(pictures) + 1))
    return [round((pixels.mean() - DARKEST) / STEP) for _, pixels in pictures]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two annotated videos of 24 frames; the frames 4, 12 and 21 are annotated."""
    keys = [f"{video}.mp4/{number:06d}.png" for video in ("AAAAA", "BBBBB") for number in (4, 12, 21)]
    persons = {key: person([5, 5, 20, 40], size=SIZE) for key in keys}
    write(tmp_path, persons, {key: [thing(bbox=(20, 10, 30, 20))] for key in keys}, images=False)
    for video in ("AAAAA", "BBBBB"):
        make_video(tmp_path / "videos" / f"{video}.mp4", IN_TIME, reorder=video == "BBBBB")
    return tmp_path


def dumped(root: Path) -> dict[str, list[str]]:
    return {folder.name: sorted(path.name for path in folder.glob("*.png")) for folder in (root / "frames").iterdir()}


ANNOTATED = ["000004.png", "000012.png", "000021.png"]


def vsg(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["data", "frames", *map(str, arguments), "--processes", "1"])


@pytest.mark.parametrize("reorder", [False, True])
def test_number_n_is_the_nth_frame_on_display(tmp_path: Path, reorder: bool) -> None:
    assert shown(make_video(tmp_path / "a.mp4", IN_TIME, reorder=reorder)) == IN_TIME


def test_a_long_frame_is_repeated_at_a_constant_rate(tmp_path: Path) -> None:
    expected = [0, 1, 2, 2, 2, 2, 3, 4, 5, 5, 5, 5, 5, 6, 7, 8, 9]
    assert shown(make_video(tmp_path / "a.mp4", LATE)) == expected


def test_frames_closer_than_the_rate_are_dropped(tmp_path: Path) -> None:
    pictures = shown(make_video(tmp_path / "a.mp4", BURST, unit=Fraction(1, 10 * RATE)))
    assert pictures == sorted(pictures)
    assert set(pictures) >= {*range(10), *range(21, 30)}
    assert len(set(pictures) & set(range(10, 20))) < 6


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed: tests/install-system-packages")
@pytest.mark.parametrize(
    ("sound", "reorder"), [(False, False), (True, True)], ids=["silent, in order", "with sound, reordered"]
)
@pytest.mark.parametrize(
    ("times", "unit"),
    [
        (IN_TIME, Fraction(1, RATE)),
        ([time + 7 for time in IN_TIME], Fraction(1, RATE)),
        (IN_TIME, Fraction(1001, RATE * 1000)),
        (LATE, Fraction(1, RATE)),
        (LATE_AT_THE_END, Fraction(1, RATE)),
        (SHAKY, Fraction(1, 10 * RATE)),
        (BURST, Fraction(1, 10 * RATE)),
    ],
    ids=["in time", "late start", "29.97", "late frames", "late at the end", "shaky", "burst"],
)
def test_pictures_are_those_of_ffmpeg(
    tmp_path: Path, times: list[int], unit: Fraction, sound: bool, reorder: bool
) -> None:
    if reorder and times in (LATE, LATE_AT_THE_END, SHAKY, BURST) and ffmpeg_release() > 5:
        pytest.skip("releases of ffmpeg after 5 may time the reordered frames of a variable rate otherwise")
    video = make_video(tmp_path / "a.mp4", times, unit=unit, sound=sound, reorder=reorder)
    subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-threads", "1", "-i", video, tmp_path / "%06d.png"], check=True, timeout=60
    )
    expected = sorted(tmp_path.glob("*.png"))
    pictures = list(numbered_frames(video))
    assert [f"{number:06d}.png" for number, _ in pictures] == [path.name for path in expected]
    for path, (_, frame) in zip(expected, pictures, strict=True):
        frame_dump._write(tmp_path / "ours.png", frame)
        ours, theirs = (cv2.imread(str(each)).astype(int) for each in (tmp_path / "ours.png", path))
        assert np.abs(ours - theirs).max() <= 2


def ffmpeg_release() -> int:
    said = subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True, text=True).stdout
    number = re.match(r"ffmpeg version n?(\d+)", said)
    return int(number[1]) if number else 99


def test_only_annotated_frames_are_written_and_complete_the_folder(root: Path) -> None:
    done: list[tuple[int, int]] = []
    assert dump_frames(root, processes=1, progress=lambda *counts: done.append(counts)) == []
    assert dumped(root) == {"AAAAA.mp4": ANNOTATED, "BBBBB.mp4": ANNOTATED}
    assert done == [(1, 2), (2, 2)]
    for name in ANNOTATED:
        picture = cv2.imread(str(root / "frames" / "BBBBB.mp4" / name))
        assert picture.mean() == pytest.approx(DARKEST + STEP * (int(name[:6]) - 1), abs=2)
    assert check_data(root).ok
    assert len(load_action_genome(root, split="train", small_objects="drop")) == 2


def test_every_frame_and_every_nth_are_written_on_request(root: Path) -> None:
    assert dump_frames(root, stride=10, processes=1) == []
    assert dumped(root)["AAAAA.mp4"] == ["000001.png", "000004.png", "000011.png", "000012.png", "000021.png"]
    assert vsg(root, "--all").exit_code == 0
    assert dumped(root)["AAAAA.mp4"] == [f"{number:06d}.png" for number in range(1, 25)]
    assert check_data(root).ok


def test_existing_frames_are_kept_and_finished_videos_not_opened(root: Path) -> None:
    kept = root / "frames" / "AAAAA.mp4" / "000012.png"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"mine")
    assert dump_frames(root, stride=1, processes=1) == []
    assert kept.read_bytes() == b"mine"
    assert len(dumped(root)["AAAAA.mp4"]) == 24
    shutil.rmtree(root / "videos")
    (root / "videos").mkdir()
    assert dump_frames(root, stride=1, processes=1) == []
    assert dump_frames(root, processes=1) == []
    kept.unlink()
    assert "AAAAA.mp4 is missing" in dump_frames(root, processes=1)[0]


def test_an_interrupted_dump_leaves_no_half_video_and_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_frame = frame_dump._write
    written: list[Any] = []

    def interrupted(path: Path, frame: object) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path)
        write_frame(path, frame)

    with monkeypatch.context() as patch:
        patch.setattr(frame_dump, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dump_frames(root, processes=1)
    assert dumped(root) == {"AAAAA.mp4": ANNOTATED}
    # What a process leaves that was killed.
    killed = root / "frames" / ".BBBBB.mp4.partial"
    killed.mkdir()
    (killed / "000004.png").write_bytes(b"half a pict")
    assert dump_frames(root, processes=1) == []
    assert dumped(root) == {"AAAAA.mp4": ANNOTATED, "BBBBB.mp4": ANNOTATED}
    assert check_data(root).ok


def test_bad_videos_are_named_at_the_end_and_the_others_dumped(root: Path) -> None:
    videos = root / "videos"
    names = ["CCCCC", "DDDDD", "EEEEE", "FFFFF", "AAAAA"]
    keys = [f"{name}.mp4/000021.png" for name in names]
    write(
        root, {key: person([5, 5, 20, 40], size=SIZE) for key in keys}, {key: [thing()] for key in keys}, images=False
    )
    (videos / "CCCCC.mp4").write_bytes((videos / "AAAAA.mp4").read_bytes()[:700])
    make_video(videos / "DDDDD.mp4", IN_TIME[:20])
    make_audio(videos / "EEEEE.mp4", codec="aac")
    result = vsg(root)
    assert result.exit_code == 1
    *problems, last = result.stdout.splitlines()
    for problem, part in zip(
        problems,
        (
            "CCCCC.mp4 cannot be decoded (",
            "DDDDD.mp4 has frames 1 to 20, but the annotations name 000021.png: copy the video that was annotated",
            "EEEEE.mp4 has no video stream",
            "FFFFF.mp4 is missing: copy this video of Charades",
        ),
        strict=True,
    ):
        assert problem.startswith(f"Problem: {videos}")
        assert part in problem
    assert last == f"{root}: 4 videos could not be dumped"
    assert dumped(root) == {"AAAAA.mp4": ["000021.png"]}


def test_a_truncated_video_is_reported_as_broken(root: Path) -> None:
    # With its index in front, a file that was cut still opens.
    whole, cut = root / "videos" / "AAAAA.mp4", root / "videos" / "BBBBB.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w", options={"movflags": "faststart"}) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    data = cut.read_bytes()
    cut.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])
    (problem,) = dump_frames(root, processes=1)
    assert "BBBBB.mp4" in problem
    assert dumped(root) == {"AAAAA.mp4": ANNOTATED}


def test_pictures_are_upright(tmp_path: Path) -> None:
    pictures = []
    for rotation in (0, 90, 180, 270):
        path = tmp_path / f"{rotation}.mp4"
        write_video(path, make_story(EASY, 3, seconds=1.0), 0.1, rotation=rotation)  # type: ignore[arg-type]
        _, frame = next(numbered_frames(path))
        frame_dump._write(tmp_path / "a.png", frame)
        pictures.append(cv2.imread(str(tmp_path / "a.png")).astype(int))
    for turned in pictures[1:]:
        assert turned.shape == pictures[0].shape
        assert np.abs(turned - pictures[0]).mean() < 3


def test_a_missing_folder_is_reported_in_one_line_with_a_remedy(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "videos")
    result = vsg(root)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert f"{root}/videos is not a folder: put the videos of Charades (480p) there" in result.stderr
    shutil.rmtree(root / "annotations")
    result = vsg(root)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert f"{root}/annotations/person_bbox.pkl cannot be read: No such file; copy it here" in result.stderr


def test_a_key_that_leads_elsewhere_is_refused(root: Path) -> None:
    write(root, {"../000001.png": person([1, 2, 3, 4])}, {}, images=False)
    with pytest.raises(DataError, match="is not a key of the form"):
        dump_frames(root, processes=1)


def test_a_folder_that_cannot_be_written_to_is_named(root: Path) -> None:
    (root / "frames").write_text("a file")
    with pytest.raises(DataError, match=r"frames cannot be written into .*/frames: "):
        dump_frames(root, processes=1)


def test_several_processes_dump_the_same_frames(root: Path) -> None:
    (root / "videos" / "AAAAA.mp4").write_text("no video")
    command = [sys.executable, "-m", "service.command_line", "data", "frames", str(root), "--processes", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert [line.split(" cannot")[0] for line in done.stdout.splitlines()] == [
        f"Problem: {root}/videos/AAAAA.mp4",
        f"{root}: 1 videos could not be dumped",
    ]
    assert dumped(root) == {"BBBBB.mp4": ANNOTATED}

"""Real clips, which lie beside the repository in ../shared/videos."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.errors import EmptyUpload
from tests.support.paths import SHARED

VIDEOS = SHARED / "videos"
pytestmark = pytest.mark.skipif(not VIDEOS.is_dir(), reason=f"{VIDEOS} is not there")
# Size as displayed, codec, frames at 5 frames a second, warnings.
ODD: dict[str, tuple[tuple[int, int], str, int, list[str]]] = {
    "decord_corrupted.mp4": ((1280, 720), "h264", 25, ["video_damaged"]),
    "decord_unordered.mov": ((50, 50), "h264", 1, []),
    "decord_video_0.mov": ((568, 320), "h264", 1, []),
    "decord_video_90.mov": ((320, 568), "h264", 1, []),
    "decord_video_180.mov": ((568, 320), "h264", 1, []),
    "decord_video_270.mov": ((320, 568), "h264", 1, []),
    "intel_people_detection.gif": ((480, 270), "gif", 10, []),
    "moviepy_1x1_yuv444.mp4": ((1, 1), "h264", 5, []),
    "moviepy_bbb_vp8.webm": ((1280, 720), "vp8", 5, []),
    "moviepy_no_duration_vp9.webm": ((1280, 720), "vp9", 25, []),
    "moviepy_vp9_alpha.webm": ((200, 200), "vp9", 25, []),
    "torchcodec_av1.mkv": ((640, 360), "av1", 25, []),
    "torchcodec_fullrange_yuvj.mp4": ((1280, 720), "h264", 5, []),
    "torchcodec_h264_10bit.mp4": ((200, 200), "h264", 5, []),
    "torchcodec_h265_10bit.mp4": ((200, 200), "hevc", 5, []),
    "torchcodec_h265_128.mp4": ((128, 128), "hevc", 5, []),
    "torchcodec_nasa_2video_streams.mp4": ((480, 270), "h264", 66, ["several_video_streams"]),
}
PEOPLE = {
    "intel_asl_book.mkv": (3.633, 30.0),
    "intel_asl_eat.mkv": (1.566, 30.0),
    "intel_asl_milk.mkv": (1.7, 30.0),
    "intel_bottle_hand.mp4": (39.855, 29.833),
    "intel_one_by_one_person.mp4": (139.4, 10.0),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_give_their_frames_and_warnings(clips: Any, name: str) -> None:
    size, codec, count, warnings = ODD[name]
    video = clips.read(VIDEOS / "odd" / name)
    assert ((video.info.width, video.info.height), video.info.codec) == (size, codec)
    assert len(video.frames) == count
    assert video.warnings == warnings
    assert video.timestamps[0] == 0.0
    assert np.all(np.diff(video.timestamps) > 0)


def test_an_empty_file_is_refused(clips: Any) -> None:
    with pytest.raises(EmptyUpload):
        clips.read(VIDEOS / "odd" / "moviepy_empty_0byte.webm")


def test_every_odd_file_is_tested() -> None:
    assert {path.name for path in (VIDEOS / "odd").iterdir()} == {*ODD, "moviepy_empty_0byte.webm"}


@pytest.mark.parametrize("name", PEOPLE)
def test_whole_clips_are_sampled_at_the_rate_that_is_asked_for(clips: Any, name: str) -> None:
    duration, rate = PEOPLE[name]
    video = clips.read(VIDEOS / "people" / name, fps=2.0)
    asked = np.arange(0.0, duration, 0.5)
    assert video.info.duration == pytest.approx(duration, abs=0.01)
    assert video.info.frame_rate == pytest.approx(rate, rel=0.01)
    assert len(video.timestamps) == len(asked)
    assert np.all(asked - video.timestamps < 1 / rate + 0.002)
    assert np.all(video.timestamps <= asked + 0.0011)

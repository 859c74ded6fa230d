"""Decoding, sampling and the API on real clips, with a stand-in model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.graph.scene_graph import SceneGraph
from tests.conftest import SHARED, Server, serve
from tests.support.waiting import decoders, until

PEOPLE = {
    "intel_asl_book.mkv": 2.0,
    "intel_asl_eat.mkv": 5.0,
    "intel_asl_milk.mkv": 1.0,
    "intel_bottle_hand.mp4": 2.0,
    "intel_one_by_one_person.mp4": 2.0,
}
# Where a graph is wanted; the others may give a graph or a 4xx problem.
ODD_BUT_FINE = {
    "decord_unordered.mov",
    "decord_video_0.mov",
    "decord_video_90.mov",
    "decord_video_180.mov",
    "decord_video_270.mov",
    "moviepy_no_duration_vp9.webm",
    "moviepy_vp9_alpha.webm",
    "moviepy_bbb_vp8.webm",
    "torchcodec_av1.mkv",
    "torchcodec_h264_10bit.mp4",
    "torchcodec_h265_10bit.mp4",
    "intel_people_detection.gif",
}
ODD = sorted(path.name for path in (SHARED / "videos" / "odd").glob("*")) or ["none"]


@pytest.fixture(scope="module")
def service(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("data"), bundles=(tiny_bundle,)) as running:
        yield running


@pytest.mark.parametrize(("name", "fps"), PEOPLE.items())
def test_a_clip_of_people_gives_frames_at_the_asked_rate_over_the_whole_clip(
    service: Server, shared_videos: Path, name: str, fps: float
) -> None:
    answer = service.post(shared_videos / "people" / name, data={"fps": str(fps)})
    assert answer.status_code == 200, answer.text
    graph = SceneGraph.model_validate_json(answer.content)
    assert graph.video.duration is not None
    assert graph.video.frame_rate is not None
    interval = 1 / graph.video.frame_rate
    assert abs(len(graph.frames) - graph.video.duration * fps) <= 1 + fps * interval
    for index, frame in enumerate(graph.frames):
        assert frame.index == index
        assert abs(frame.timestamp - index / fps) <= interval + 1e-6
    assert graph.warnings == []


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_gives_a_graph_or_says_what_is_wrong(service: Server, shared_videos: Path, name: str) -> None:
    answer = service.post(shared_videos / "odd" / name)
    if answer.status_code == 200:
        assert SceneGraph.model_validate_json(answer.content).frames
    else:
        assert name not in ODD_BUT_FINE, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert 400 <= answer.status_code < 500
        assert answer.json()["code"] not in ("", "internal_error")


@pytest.mark.parametrize(("name", "size"), [("decord_video_0.mov", (640, 360)), ("decord_video_90.mov", (360, 640))])
def test_boxes_are_those_of_the_rotated_picture(
    service: Server, shared_videos: Path, name: str, size: tuple[int, int]
) -> None:
    graph = service.post(shared_videos / "odd" / name).json()
    width, height = graph["video"]["width"], graph["video"]["height"]
    assert (width > height) == (size[0] > size[1])
    boxes = [thing["box"] for frame in graph["frames"] for thing in frame["objects"]]
    assert all(box[2] <= width + 0.1 and box[3] <= height + 0.1 for box in boxes)


def test_a_video_that_was_cut_short_gives_a_warning(service: Server, shared_videos: Path) -> None:
    content = (shared_videos / "people" / "intel_asl_book.mkv").read_bytes()
    graph = service.post(content[: len(content) // 2]).json()
    assert graph["frames"]
    assert graph["warnings"]


def test_no_process_or_file_is_left_behind(service: Server) -> None:
    until(lambda: not service.uploads() and not decoders())

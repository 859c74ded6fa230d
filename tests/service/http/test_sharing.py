"""What clients notice of sharing one engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Server
from tests.support.videos import make_video
from tests.support.waiting import until


def test_a_short_video_behind_ten_long_ones_takes_at_most_three_times_as_long(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    short = make_video(tmp_path / "short.mp4", seconds=10, rate=10)
    long = make_video(tmp_path / "long.mp4", seconds=600, rate=10)
    # One frame a batch: whoever is served makes the others wait.
    server = start_server(engine="stub", stub_seconds=0.02, max_batch=1)

    def seconds() -> float:
        began = time.monotonic()
        assert len(server.post(short).json()["frames"]) == 20
        return time.monotonic() - began

    seconds()
    alone = seconds()
    places = [server.post(long, headers={"prefer": "respond-async"}).headers["location"] for _ in range(10)]
    until(lambda: all(server.client.get(place).json()["progress"]["frames"] > 0 for place in places))
    assert seconds() <= 3 * alone
    assert all(server.client.get(place).json()["status"] == "running" for place in places)
    for place in places:
        server.client.delete(place)
    until(lambda: not server.uploads())


def test_eight_clients_get_at_least_four_times_the_rate_of_one(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    """On an engine that takes as long for a batch as for a frame; `vsg bench --stub 20` measures how much it is."""
    video = make_video(tmp_path / "video.mp4", seconds=20, rate=2)
    server = start_server(engine="stub", stub_seconds=0.05)

    def seconds(count: int) -> float:
        began = time.monotonic()
        places = [server.post(video, headers={"prefer": "respond-async"}).headers["location"] for _ in range(count)]
        until(lambda: all(server.client.get(place).json()["status"] == "succeeded" for place in places))
        return time.monotonic() - began

    seconds(1)
    assert seconds(8) < 2 * seconds(1)


def test_videos_that_run_at_once_report_their_own_progress(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server(engine="stub", stub_seconds=0.05)
    videos = {seconds: make_video(tmp_path / f"{seconds}.mp4", seconds=seconds, rate=2) for seconds in (30, 40)}
    places = {
        seconds: server.post(video, headers={"prefer": "respond-async"}).headers["location"]
        for seconds, video in videos.items()
    }

    def progress(seconds: int) -> dict[str, int]:
        found: dict[str, int] = server.client.get(places[seconds]).json().get("progress", {"frames": 0})
        return found

    until(lambda: min(progress(30)["frames"], progress(40)["frames"]) > 0)
    assert (progress(30)["expected"], progress(40)["expected"]) == (60, 80)
    assert abs(progress(30)["frames"] - progress(40)["frames"]) < 30

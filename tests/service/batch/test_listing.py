"""The videos of a source."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from service.batch.errors import SourceUnusable
from service.batch.listing import ListedVideo, Shard, list_videos


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for name in ("b.mp4", "deep/a.MKV", "deep/notes.txt", "cover.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\x00")
    return folder


def names_of(source: str, folder: Path) -> list[str]:
    return [os.path.relpath(video.path, folder) for video in list_videos(source)]


def test_a_folder_is_searched_for_endings_of_videos(videos: Path) -> None:
    assert names_of(str(videos), videos) == ["b.mp4", "deep/a.MKV"]


def test_a_glob_names_any_file(videos: Path) -> None:
    assert names_of(f"{videos}/*", videos) == ["b.mp4", "cover.jpg"]
    assert names_of(f"{videos}/**/*.MKV", videos) == ["deep/a.MKV"]


def test_a_list_is_relative_to_its_folder_and_may_name_what_is_not_there(videos: Path, tmp_path: Path) -> None:
    lines = ["# a comment", "videos/b.mp4", "", f"{videos}/deep/a.MKV", "videos/*.mp4", "videos/gone.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert names_of(str(tmp_path / "list.txt"), videos) == ["b.mp4", "deep/a.MKV", "gone.mp4"]


def test_a_video_is_a_source_even_if_it_is_broken(videos: Path, clip: Path) -> None:
    assert [video.path for video in list_videos(str(clip))] == [str(clip)]
    assert names_of(str(videos / "b.mp4"), videos) == ["b.mp4"]


def test_a_url_of_fsspec_is_a_source() -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/bucket/one.mp4", b"1")
    store.pipe_file("/bucket/list.txt", b"one.mp4\nmemory://bucket/one.mp4")
    for source in ("memory://bucket", "memory://bucket/*.mp4", "memory://bucket/list.txt"):
        [video] = list_videos(source)
        assert video.path == "memory:///bucket/one.mp4"


def test_the_etag_changes_with_the_content(videos: Path) -> None:
    before = list_videos(str(videos / "b.mp4"))
    (videos / "b.mp4").write_bytes(b"\x00\x00")
    assert list_videos(str(videos / "b.mp4")) != before


def test_shards_have_each_video_once_whatever_else_there_is() -> None:
    videos = [ListedVideo(f"/videos/{number}.mp4", "1") for number in range(200)]
    parts = [[video for video in videos if Shard(number, 3).has(video)] for number in (1, 2, 3)]
    assert sorted((video for part in parts for video in part), key=videos.index) == videos
    assert all(40 < len(part) < 95 for part in parts)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{}/nothing", "has no video: give a folder, a glob, a list of paths, or a video"),
        ("{}/*.avi", "has no video"),
        ("{}/cover.jpg", "neither a video nor a text|has no video|cannot be listed"),
        ("nosuch://bucket", "cannot be listed"),
    ],
)
def test_a_source_without_videos_is_refused(videos: Path, source: str, message: str) -> None:
    (videos / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(SourceUnusable, match=message):
        list_videos(source.format(videos))

"""`vsg batch`: from videos to an archive, whatever happens on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from service.archive.folder import ArchiveFolder, TableName
from service.archive.reading import read_table
from service.archive.tables import Source, graph_rows
from service.archive.writing import append
from service.batch.errors import BatchStopped
from service.batch.listing import Shard, list_videos
from service.batch.making import Setup
from service.batch.running import plan
from service.commands.batch import batch
from service.commands.graph import graph
from service.graph import GraphReader
from service.options import VideoOptions
from service.settings import load_settings
from tests.support.paths import ROOT
from tests.support.videos import make_video
from tests.support.waiting import until

COUNT = 3


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos and a file that is none."""
    folder = tmp_path_factory.mktemp("batch") / "videos"
    folder.mkdir()
    for number in range(COUNT):
        make_video(folder / f"{number}.mp4", brightness=lambda seconds, first=number: 0.3 + 0.1 * first + 0.1 * seconds)
    (folder / "broken.mp4").write_bytes(b"this is no video")
    return folder


def run(source: Path, archive: Path, bundle: Path, *more: str) -> str:
    arguments = [str(source), "--to", str(archive), "--bundle", str(bundle), "--processes", "1", *more]
    done = CliRunner().invoke(batch, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def rows_of(archive: Path, table: Any = "videos") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(ArchiveFolder(archive), table).to_pylist()
    return rows


@pytest.fixture(scope="module")
def done(videos: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An archive with frames, and what the command said."""
    archive = tmp_path_factory.mktemp("done") / "archive"
    return archive, run(videos, archive, tiny_bundle, "--frames")


def test_each_graph_is_that_of_vsg_graph_and_a_bad_video_is_a_row_with_its_problem(
    done: tuple[Path, str], tiny_bundle: Path, tmp_path: Path
) -> None:
    archive, said = done
    assert f"{COUNT + 1} videos: 0 done before, {COUNT} graphs made, 1 with a problem, 0 left" in said
    assert "unsupported_media: 1" in said
    rows = {Path(row["path"]).stem: row for row in rows_of(archive)}
    assert (rows["broken"]["problem"], rows["broken"]["graph_id"]) == ("unsupported_media", None)
    assert "looks like text" in rows["broken"]["problem_detail"]
    names: tuple[TableName, ...] = ("objects", "relations", "frames")
    tables = {name: rows_of(archive, name) for name in names}
    for number in range(COUNT):
        row = rows[str(number)]
        output = tmp_path / "graph.json"
        arguments = [row["path"], "-o", str(output), "--bundle", str(tiny_bundle)]
        assert CliRunner().invoke(graph, arguments, catch_exceptions=False).exit_code == 0
        source = Source(row["video"], path=row["path"], etag=row["etag"], model_sha256=row["model_sha256"])
        wanted = graph_rows(GraphReader([output.read_bytes()]), source, with_frames=True)
        assert row | {"made": None} == wanted["videos"].to_pylist()[0] | {"made": None}
        for name, found in tables.items():
            assert [each for each in found if each["video"] == row["video"]] == wanted[name].to_pylist()


def test_a_second_run_does_nothing_and_one_with_other_options_does_all(
    done: tuple[Path, str], videos: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    archive = Path(shutil.copytree(done[0], tmp_path / "archive"))
    before = rows_of(archive)
    said = run(videos, archive, tiny_bundle, "--frames")
    assert f"{COUNT + 1} done before, 0 graphs made, 0 with a problem, 0 left" in said
    assert rows_of(archive) == before
    said = run(videos / "0.mp4", archive, tiny_bundle, "--fps", "1")
    assert "0 done before, 1 graphs made" in said
    assert len(rows_of(archive)) == COUNT + 2


def setup_of(archive: Path, bundle: Path) -> Setup:
    return Setup.of(load_settings({}), str(archive), bundle, VideoOptions())


def test_limit_and_shards_leave_the_rest_for_later(videos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    setup, listed = setup_of(tmp_path / "archive", tiny_bundle), list_videos(str(videos))
    limited = plan(setup, listed, limit=1)
    assert (limited.todo, limited.listed, limited.done_before) == (listed[:1], COUNT + 1, 0)
    parts = [plan(setup, listed, shard=Shard(number, 2)) for number in (1, 2)]
    assert sum(part.listed for part in parts) == COUNT + 1
    assert sorted((video for part in parts for video in part.todo), key=listed.index) == listed


def test_problems_are_tried_again_when_asked(videos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    setup, [video, *_] = setup_of(tmp_path / "archive", tiny_bundle), list_videos(str(videos))
    assert plan(setup, [video]).todo == [video]
    append(ArchiveFolder(setup.archive), setup.problem(video, "source_unreadable", "the file cannot be read"))
    assert plan(setup, [video]).todo == []
    assert plan(setup, [video], retries_problems=True).todo == [video]
    assert rows_of(tmp_path / "archive") == []


def test_a_video_that_is_not_there_is_a_row_with_its_problem(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("late.mp4")
    assert "source_unreadable: 1" in run(tmp_path / "list.txt", tmp_path / "archive", tiny_bundle)
    [row] = rows_of(tmp_path / "archive")
    assert (row["path"], row["problem"]) == (str(tmp_path / "late.mp4"), "source_unreadable")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "3/2"], "give a number and the count of all, such as 1/8 or 8/8"),
        (["--model-engine", "abacus"], "--model-engine is 'abacus': give one of"),
        (["--model", "nobody"], "--model is 'nobody': give one of tiny"),
        (["--fps", "0"], "--fps is '0'"),
    ],
)
def test_a_wrong_option_is_named(
    videos: Path, tiny_bundle: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    asked = [str(videos), "--to", str(tmp_path / "archive"), "--bundle", str(tiny_bundle), *arguments]
    done = CliRunner().invoke(batch, asked)
    assert message in f"{done.output} {done.exception}"
    assert not (tmp_path / "archive").exists()


class Driver:
    """`vsg batch` as a process of its own."""

    def __init__(self, source: Path, archive: Path, bundle: Path, *more: str) -> None:
        code = "from service.commands.batch import batch; batch(prog_name='vsg batch')"
        asked = [str(source), "--to", str(archive), "--bundle", str(bundle), "--processes", "1", *more]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *asked],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def workers(self) -> Iterator[psutil.Process]:
        """The processes that hold a model."""
        for process in psutil.Process(self.process.pid).children():
            if "spawn_main" in " ".join(process.cmdline()):
                yield process

    def end(self, seconds: float = 120.0) -> str:
        """Waits for its end. Returns what it said."""
        said, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, said
        return said


def test_whatever_is_killed_nothing_is_lost_or_double(videos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"

    def rows() -> int:
        return len(list((archive / "videos").glob("*.parquet")))

    driver = Driver(videos, archive, tiny_bundle)
    until(lambda: rows() >= 1, 120)
    for worker in driver.workers():
        worker.kill()
    until(lambda: rows() >= 2, 120)  # another worker has taken its place
    workers = list(driver.workers())
    driver.process.kill()
    driver.process.communicate()
    until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers), 60)
    said = run(videos, archive, tiny_bundle)
    assert "0 left" in said
    assert "0 done before" not in said
    assert len(rows_of(archive)) == COUNT + 1


def test_ray_makes_the_same_rows(done: tuple[Path, str], videos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    archive = tmp_path / "archive"
    said = Driver(videos, archive, tiny_bundle, "--frames", "--engine", "ray").end(280)
    assert f"{COUNT} graphs made, 1 with a problem, 0 left" in said
    for table in ("videos", "objects", "relations", "frames"):
        found, wanted = (
            sorted(str(row | {"made": None}) for row in rows_of(each, table)) for each in (archive, done[0])
        )
        assert found == wanted


def test_a_model_that_does_not_open_is_told_in_one_line(videos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    asked = [str(videos), "--to", str(tmp_path / "archive"), "--bundle", str(tiny_bundle), "--processes", "1"]
    done = CliRunner().invoke(batch, [*asked, "--model-engine", "tensorrt"])
    assert done.exit_code == 1
    assert isinstance(done.exception, BatchStopped)
    assert str(done.exception).startswith("TensorRT cannot be loaded")


def test_a_missing_ray_is_said_with_the_pip_command(
    videos: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    asked = [str(videos), "--to", str(tmp_path / "archive"), "--bundle", str(tiny_bundle), "--engine", "ray"]
    done = CliRunner().invoke(batch, asked)
    assert done.exit_code == 1
    assert "--engine ray needs ray" in str(done.exception)
    assert "pip install 'video-scene-graph[ray]'" in str(done.exception)

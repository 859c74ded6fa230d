"""Archives that are compacted, also by a process that is killed: each video is there once, at every moment."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

import pytest

from service.archive.compaction import compact, forget
from service.archive.errors import ArchiveError, ArchiveFull
from service.archive.folder import TABLE_NAMES, ArchiveFolder, is_packed
from service.archive.reading import files, finished, read_table
from service.archive.tables import video_key
from service.archive.writing import append, append_many
from tests.support.archives import make_archive, problem_of, rows_of
from tests.support.disk import no_room
from tests.support.paths import ROOT

NAMES = ["a", "b", "c", "d"]


class Killed(Exception):  # noqa: N818
    """A process ends here."""


class MortalFolder(ArchiveFolder):
    """An archive whose process is killed when it writes or deletes a file for the nth time."""

    def __init__(self, url: Path, strokes: int) -> None:
        super().__init__(url)
        self.strokes = strokes

    def _stroke(self) -> None:
        self.strokes -= 1
        if self.strokes < 0:
            raise Killed

    def _write(self, path: str, content: bytes) -> None:
        self._stroke()
        super()._write(path, content)

    def _remove(self, path: str) -> None:
        self._stroke()
        super()._remove(path)


def content_of(folder: ArchiveFolder) -> dict[str, list[str]]:
    """All rows, sorted, without the time of their making."""
    return {
        table: sorted(str(row | {"made": None}) for row in read_table(folder, table).to_pylist())
        for table in TABLE_NAMES
    }


def test_one_file_has_all_rows_sorted_after_compaction(tmp_path: Path) -> None:
    folder = make_archive(tmp_path / "archive", NAMES)
    append(folder, problem_of("broken"))
    before = content_of(folder)
    compact(folder)
    assert content_of(folder) == before
    assert all(len(folder.names(table)) == 1 for table in TABLE_NAMES)
    relations = read_table(folder, "relations").to_pylist()
    assert [(row["video"], row["start"]) for row in relations] == sorted(
        (row["video"], row["start"]) for row in relations
    )
    done = compact(folder)
    assert done is not None
    assert (done.before, done.after) == (1, 1)
    assert content_of(folder) == before


def test_a_compaction_that_is_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    moments = 0
    original = make_archive(tmp_path / "original", NAMES[:2], with_frames=False)
    append_many(original, rows_of("packed", with_frames=False))
    before = content_of(original)
    for strokes in range(100):
        folder = ArchiveFolder(shutil.copytree(original.url, tmp_path / str(strokes)))
        try:
            compact(MortalFolder(tmp_path / str(strokes), strokes))
        except Killed:
            moments += 1
            assert content_of(folder) == before, f"killed at stroke {strokes}"
            compact(folder)
            assert content_of(folder) == before, f"killed at stroke {strokes}, and compacted again"
            assert len(folder.names("videos")) == 1
            continue
        break
    assert moments >= 3 + 3 * 3  # three files are written, and three of each of the old ones deleted


def test_a_deletion_that_is_killed_at_any_moment_ends_with_the_next_compaction(tmp_path: Path) -> None:
    gone = video_key("b")
    original = make_archive(tmp_path / "original", NAMES[:2], with_frames=False)
    compact(original)
    append(original, rows_of("late", with_frames=False))
    for strokes in range(1, 100):
        folder = ArchiveFolder(shutil.copytree(original.url, tmp_path / str(strokes)))
        mortal = MortalFolder(tmp_path / str(strokes), strokes)
        is_killed = False
        try:
            forget(mortal, [gone])
        except Killed:
            is_killed = True
        kept = {video_key(name) for name in ("a", "b", "late")} - {gone}
        assert finished(folder) == kept
        assert {row["video"] for row in read_table(folder, "relations").to_pylist()} == kept
        compact(folder)
        assert not folder.hidden()
        assert all(gone.encode() not in path.read_bytes() for path in Path(folder.url).rglob("*.parquet"))
        if not is_killed:
            return
    pytest.fail("the deletion does not end")


def test_a_video_that_was_forgotten_can_be_appended_again(tmp_path: Path) -> None:
    folder = make_archive(tmp_path / "archive", NAMES)
    append(folder, problem_of("broken"))
    compact(folder)
    forget(folder, [video_key("broken")])
    append(folder, rows_of("broken"))
    assert [row["problem"] for row in read_table(folder, "videos").to_pylist()] == [None] * 5


def test_appending_a_video_again_changes_nothing_even_after_compaction(tmp_path: Path) -> None:
    folder = make_archive(tmp_path / "archive", NAMES)
    before = content_of(folder)
    append(folder, rows_of("a"))
    assert content_of(folder) == before
    compact(folder)
    append(folder, rows_of("a"))
    assert content_of(folder) == before


def test_readers_see_each_video_once_while_others_append_and_compact(tmp_path: Path) -> None:
    folder = make_archive(tmp_path / "archive", ["first"])
    over = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(12):
                append(folder, rows_of(str(number), with_frames=False))
                if number % 3 == 2:
                    compact(folder)
        except BaseException as error:
            errors.append(error)
        finally:
            over.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not over.is_set():
        for table, rows in (("videos", 1), ("relations", 3)):
            keys = [row["video"] for row in read_table(ArchiveFolder(folder.url), table).to_pylist()]
            assert len(keys) == rows * len(set(keys))
            assert len(set(keys)) >= (seen if table == "videos" else 0)
            seen = max(seen, len(set(keys))) if table == "videos" else seen
    writer.join()
    assert not errors
    assert len(finished(folder)) == 13


def test_only_one_process_compacts_at_a_time(tmp_path: Path) -> None:
    folder = make_archive(tmp_path / "archive", NAMES)
    with folder.alone() as is_alone:
        assert is_alone
        assert compact(ArchiveFolder(folder.url)) is None
    assert compact(folder) is not None


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = make_archive(tmp_path / "archive", ["a"])
    before = content_of(folder)
    with no_room(1000), pytest.raises(ArchiveFull, match="no room left: make some, and run the same command again"):
        append(folder, rows_of("b"))
    assert content_of(folder) == before
    assert not list(Path(folder.url).rglob("*.part"))
    append(folder, rows_of("b"))
    assert len(finished(folder)) == 2


def test_an_archive_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = make_archive(tmp_path / "archive", [])
    (tmp_path / "archive" / "archive.json").write_text('{"schema_version": 2}')
    with pytest.raises(ArchiveError, match="version 2, and this program reads version 1"):
        folder.check()
    with pytest.raises(ArchiveError, match="is no archive: write one with `vsg batch"):
        ArchiveFolder(tmp_path).check()


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_two_lines_read_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(library)
    folder = make_archive(tmp_path / "archive", NAMES)
    compact(folder)
    append(folder, rows_of("late"))
    lines = re.findall(rf"```python\n(import {library}\n\n[^\n]+)\n```", (ROOT / "docs" / "archives.md").read_text())
    assert len(lines) == 1, "docs/archives.md has two lines for each library"
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(lines[0], found)
    assert len(found["relations"]) == 3 * 5  # type: ignore[arg-type]
    assert sum(is_packed(name) for name in files(folder).names) == 1

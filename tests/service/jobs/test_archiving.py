"""The archive that a service writes: what was posted stays there until it is deleted."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from service.archive.compaction import compact
from service.archive.folder import ArchiveFolder, TableName
from service.archive.reading import files, read_table
from service.errors import SettingsError, StorageFull, StorageUnavailable
from service.jobs.archiving import JobArchive
from service.jobs.errors import NotFound
from service.jobs.sweeping import sweep
from service.storage import Storage
from tests.service.jobs.process import ME, Process, process, settings_of
from tests.service.jobs.test_storage_faults import away, fill, small_disk, until_it_is_away

__all__ = ["small_disk"]  # a fixture


def rows_of(folder: Path, table: TableName = "videos") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(ArchiveFolder(folder), table).to_pylist()
    return rows


def ids_in(folder: Path) -> list[str]:
    return [row["graph_id"] for row in rows_of(folder)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    ArchiveFolder(folder).make()
    return folder


async def test_a_finished_graph_is_in_the_archive_and_outlives_its_result(
    tiny_bundle: Path, clip: Path, tmp_path: Path, archive: Path
) -> None:
    async with process(tiny_bundle, tmp_path / "data", "memory://", archive=str(archive)) as running:
        video_id = await running.submit(clip)
        assert await running.end_of(video_id) == "succeeded"
        [row] = rows_of(archive)
        assert (row["graph_id"], row["owner"], row["problem"], row["path"]) == (video_id, ME, None, None)
        assert {row["owner"] for row in rows_of(archive, "relations")} == {ME}
        assert running.storage.delete_result(video_id, ME)
        assert ids_in(archive) == [video_id]


async def test_a_deleted_video_is_hidden_at_once_and_its_rows_go_with_the_next_sweep(
    tiny_bundle: Path, clip: Path, tmp_path: Path, archive: Path
) -> None:
    settings = settings_of(tmp_path / "data", "memory://", archive=str(archive))
    async with process(tiny_bundle, tmp_path / "data", "memory://", archive=str(archive)) as running:
        kept, deleted = [await running.submit(clip, reuse=False) for _ in range(2)]
        assert [await running.end_of(video_id) for video_id in (kept, deleted)] == ["succeeded"] * 2
        compact(ArchiveFolder(archive))
        await running.jobs.delete(deleted, ME)
        assert ids_in(archive) == [kept]
        assert files(ArchiveFolder(archive)).deleted
        await sweep(running.queue, running.storage, settings)
        assert ids_in(archive) == [kept]
        assert not files(ArchiveFolder(archive)).deleted
        assert all(deleted.encode() not in path.read_bytes() for path in archive.rglob("*.parquet"))


async def test_a_graph_can_be_deleted_from_the_archive_after_its_result_is_gone_but_only_by_its_owner(
    tiny_bundle: Path, clip: Path, tmp_path: Path, archive: Path
) -> None:
    data = tmp_path / "data"
    async with process(tiny_bundle, data, "memory://", archive=str(archive), retention=0.5) as running:
        video_id = await running.submit(clip)
        assert await running.end_of(video_id) == "succeeded"

        await until_over(running, video_id)
        for owner in ("another", ""):
            with pytest.raises(NotFound):
                await running.jobs.delete(video_id, owner)
        assert ids_in(archive) == [video_id]
        await running.jobs.delete(video_id, ME)
        assert ids_in(archive) == []
        with pytest.raises(NotFound):
            await running.jobs.delete(video_id, ME)


async def test_a_graph_that_was_appended_after_its_video_was_deleted_goes_with_the_next_sweep(
    tiny_bundle: Path, clip: Path, tmp_path: Path, archive: Path
) -> None:
    settings = settings_of(tmp_path / "data", "memory://", archive=str(archive))
    async with process(tiny_bundle, tmp_path / "data", "memory://", archive=str(archive)) as running:
        video_id = await running.submit(clip)
        assert await running.end_of(video_id) == "succeeded"
        graph = running.storage.result(video_id, ME).read()
        await running.jobs.delete(video_id, ME)
        await sweep(running.queue, running.storage, settings)
        running.storage.write_result(video_id, ME, graph)
        JobArchive(str(archive), running.storage).add(video_id, ME)
        assert ids_in(archive) == [video_id]
        await sweep(running.queue, running.storage, settings)
        assert ids_in(archive) == []


async def test_a_job_waits_while_the_archive_is_away(
    tiny_bundle: Path, clip: Path, tmp_path: Path, archive: Path
) -> None:
    async with process(tiny_bundle, tmp_path / "data", "memory://", archive=str(archive)) as running:
        with away(archive):
            await until_it_is_away(running)
            video_id = await running.submit(clip)
            await asyncio.sleep(1)
            assert await running.status(video_id) in ("queued", "running")
        assert await running.end_of(video_id) == "succeeded"
        assert ids_in(archive) == [video_id]


async def test_a_job_waits_while_the_archive_is_full(
    tiny_bundle: Path, clip: Path, tmp_path: Path, small_disk: Path
) -> None:
    archive = small_disk / "archive"
    ArchiveFolder(archive).make()
    async with process(tiny_bundle, tmp_path / "data", "memory://", archive=str(archive)) as running:
        ballast = fill(small_disk)
        with pytest.raises(StorageFull):
            await until_full(running.jobs.check)
        video_id = await running.submit(clip)
        await asyncio.sleep(1)
        assert await running.status(video_id) in ("queued", "running")
        ballast.unlink()
        assert await running.end_of(video_id) == "succeeded"
        assert ids_in(archive) == [video_id]


async def until_over(running: Process, video_id: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await running.jobs.state(video_id, ME)
            except NotFound:
                return
            await asyncio.sleep(0.1)


async def until_full(check: Any) -> None:
    async with asyncio.timeout(20):
        while True:
            await check()
            await asyncio.sleep(0.1)


async def test_a_video_is_not_deleted_while_the_archive_cannot_delete_it(
    tiny_bundle: Path, clip: Path, tmp_path: Path, archive: Path
) -> None:
    async with process(tiny_bundle, tmp_path / "data", "memory://", archive=str(archive)) as running:
        video_id = await running.submit(clip)
        assert await running.end_of(video_id) == "succeeded"
        with away(archive), pytest.raises(StorageUnavailable):
            await running.jobs.delete(video_id, ME)
        assert await running.status(video_id) == "succeeded"
        await running.jobs.delete(video_id, ME)
        assert ids_in(archive) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"schema_version": 99}', "archive of version 99"), ("nonsense", "damaged")],
)
def test_a_service_does_not_start_with_an_archive_that_it_cannot_read(
    archive: Path, tmp_path: Path, content: str, message: str
) -> None:
    (archive / "archive.json").write_text(content)
    with pytest.raises(SettingsError, match=f"VSG_ARCHIVE is .*{message}"):
        JobArchive(str(archive), Storage(str(tmp_path))).make()


def test_a_missing_library_is_said_at_the_start_with_the_pip_command(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match=r"VSG_ARCHIVE needs pyarrow.*pip install 'video-scene-graph\[archive\]'"):
        JobArchive(str(archive), Storage(str(tmp_path)))
    JobArchive(None, Storage(str(tmp_path))).check()

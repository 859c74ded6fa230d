"""Makes few files of many, and takes the rows of deleted videos out.

A packed file appears whole, and from that moment readers leave out the files whose videos it has. So a process that is
killed at any moment loses nothing and doubles nothing; the next compaction deletes what it left.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from service.archive.errors import ArchiveError
from service.archive.folder import TABLE_NAMES, ArchiveFolder, TableName, is_packed
from service.archive.reading import Files, files, packed_videos, read_file, without
from service.archive.tables import TABLES
from service.archive.writing import append_many

ENOUGH_FILES = 1000
"""Files of single videos from which it is worth to compact while others write."""
_MOST_VIDEOS = 20_000  # in a packed file
_MOST_BYTES = 64 << 20  # of the files that become one: they are in memory together, several times as large
_UNFINISHED_SECONDS = 3600.0


@dataclass(frozen=True)
class Compacted:
    """The outcome of a compaction.

    before, after: number of files in `videos`.
    deleted: number of deleted videos whose rows are gone now.
    """

    before: int
    after: int
    deleted: int


def compact(folder: ArchiveFolder) -> Compacted | None:
    """Compacts an archive. Others may write and read meanwhile. Returns None where another process compacts it.

    Raises ArchiveFull and what the store raises.
    """
    with folder.alone() as is_alone:
        return _compact(folder) if is_alone else None


def needs_compaction(folder: ArchiveFolder) -> bool:
    """Whether there are many files of single videos, or deleted videos whose rows are still there."""
    return bool(folder.hidden()) or sum(not is_packed(name) for name in folder.names("videos")) >= ENOUGH_FILES


def forget(folder: ArchiveFolder, videos: Iterable[str]) -> None:
    """Takes videos out, so that they can be appended again. Raises ArchiveError where another process compacts."""
    for video in videos:
        folder.hide(video)
    if folder.hidden() and compact(folder) is None:
        raise ArchiveError(f"another process compacts {folder.url}: run this command again when it has ended")


def _compact(folder: ArchiveFolder) -> Compacted:
    listed = folder.names("videos")
    found = files(folder)
    folder.remove_unfinished(_UNFINISHED_SECONDS)
    _remove_all(folder, listed - set(found.names))  # a compaction that was killed has left them
    for group in _groups(folder, found):
        rows = {table: _rows_of(folder, table, group, found.deleted) for table in TABLE_NAMES}
        if not rows["frames"].num_rows:
            del rows["frames"]
        append_many(folder, rows, replaces=[name for name in group if is_packed(name)])
        _remove_all(folder, group)
    for video in found.deleted:
        folder.remove(video)
        folder.unhide(video)
    return Compacted(len(listed), len(folder.names("videos")), len(found.deleted))


def _groups(folder: ArchiveFolder, found: Files) -> list[list[str]]:
    """The names of files, by the file that they become; none where that would change nothing."""
    sizes = [folder.sizes(table) for table in TABLE_NAMES]
    groups: list[list[str]] = []
    videos = size = 0
    for name in found.names:
        count = len(packed_videos(folder, name)) if is_packed(name) else 1
        if not _is_worth_it(folder, name, count, found.deleted):
            continue
        bytes_of_name = sum(of_table.get(name, 0) for of_table in sizes)
        if not groups or videos + count > _MOST_VIDEOS or size + bytes_of_name > _MOST_BYTES:
            groups.append([])
            videos = size = 0
        groups[-1].append(name)
        videos, size = videos + count, size + bytes_of_name
    return [group for group in groups if len(group) > 1 or _has_deleted(folder, group[0], found.deleted)]


def _is_worth_it(folder: ArchiveFolder, name: str, count: int, deleted: frozenset[str]) -> bool:
    return count <= _MOST_VIDEOS // 2 or _has_deleted(folder, name, deleted)


def _has_deleted(folder: ArchiveFolder, name: str, deleted: frozenset[str]) -> bool:
    return is_packed(name) and not deleted.isdisjoint(packed_videos(folder, name))


def _rows_of(folder: ArchiveFolder, table: TableName, names: Iterable[str], deleted: frozenset[str]) -> pa.Table:
    parts = [TABLES[table].empty_table()]
    for name in names:
        with suppress(FileNotFoundError):  # deleted just now, or a table that the video has not
            parts.append(read_file(folder, table, name))
    return without(pa.concat_tables(parts), deleted)


def _remove_all(folder: ArchiveFolder, names: Iterable[str]) -> None:
    for name in names:
        folder.remove(name)

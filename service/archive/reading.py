"""The files of an archive that count, while others write, compact and delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from service.archive.folder import TABLE_NAMES, ArchiveFolder, TableName, is_packed
from service.archive.tables import TABLES

_MOST_TRIES = 20

T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """The files of an archive at one moment. Read together, they have each video once.

    names: of the files in `videos`.
    by_table: names of the files that each table has of these.
    addresses: the same as paths on a disk, or URLs.
    deleted: keys of deleted videos, whose rows a reader leaves out.
    """

    names: tuple[str, ...]
    by_table: Mapping[TableName, tuple[str, ...]]
    addresses: Mapping[TableName, tuple[str, ...]]
    deleted: frozenset[str]


def files(folder: ArchiveFolder) -> Files:
    """The files that count now. One of them may be gone when it is read, because it was compacted: see `steadily`."""
    names, deleted = _counting(folder)
    while True:
        by_table = {table: tuple(sorted(names & folder.names(table))) for table in TABLE_NAMES}
        # A file of another table is missing when it was compacted since; then the one in `videos` counts no longer.
        again, deleted_again = _counting(folder)
        if names <= again:
            addresses = {
                table: tuple(folder.address(table, name) for name in of_table) for table, of_table in by_table.items()
            }
            return Files(by_table["videos"], by_table, addresses, frozenset(deleted))
        names, deleted = again, deleted_again


def steadily(folder: ArchiveFolder, read: Callable[[Files], T]) -> T:
    """Reads the files that count, again where one of them was compacted meanwhile.

    Returns what `read` returns, and raises what it raises otherwise.
    """
    for _ in range(_MOST_TRIES):
        found = files(folder)
        try:
            return read(found)
        except Exception:
            if set(found.names) <= set(files(folder).names):
                raise
    return read(files(folder))


def finished(folder: ArchiveFolder) -> set[str]:
    """The keys of all videos that have a row, with a graph or a problem, and are not deleted."""
    return steadily(folder, lambda found: _videos_of(folder, found))


def owner_of(folder: ArchiveFolder, video: str) -> str | None:
    """The one who posted a video; None where the archive does not have it."""

    def read(found: Files) -> str | None:
        if video in found.deleted:
            return None
        for name in found.names:
            if name == video or (is_packed(name) and video in packed_videos(folder, name)):
                rows = read_file(folder, "videos", name)
                owner: str = rows.filter(pc.equal(rows["video"], video))["owner"][0].as_py()
                return owner
        return None

    return steadily(folder, read)


def read_table(folder: ArchiveFolder, table: TableName) -> pa.Table:
    """All rows of a table that count, sorted within each file."""
    return steadily(folder, lambda found: read_files(folder, table, found))


def read_files(folder: ArchiveFolder, table: TableName, found: Files) -> pa.Table:
    """The rows of these files of a table, without those of deleted videos. Raises OSError where a file is gone."""
    parts = [read_file(folder, table, name) for name in found.by_table[table]]
    rows = pa.concat_tables([TABLES[table].empty_table(), *parts])
    return without(rows, found.deleted)


def read_file(folder: ArchiveFolder, table: TableName, name: str) -> pa.Table:
    """The rows of one file of a table. Raises FileNotFoundError."""
    with folder.store.open(folder.path(table, name), "rb") as file:
        return pq.read_table(file, schema=TABLES[table]).replace_schema_metadata()


def without(rows: pa.Table, videos: frozenset[str]) -> pa.Table:
    """The rows that are not of these videos."""
    if not videos:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows["video"], pa.array(sorted(videos), pa.string()))))


@lru_cache(maxsize=1024)
def _packed_videos(folder: ArchiveFolder, name: str) -> frozenset[str]:
    with folder.store.open(folder.path("videos", name), "rb") as file:
        return frozenset(pq.read_table(file, columns=["video"])["video"].to_pylist())


def packed_videos(folder: ArchiveFolder, name: str) -> frozenset[str]:
    """The keys of the videos in a packed file; none where it is gone."""
    try:
        return _packed_videos(folder, name)
    except FileNotFoundError:
        return frozenset()


@lru_cache(maxsize=1024)
def _metadata(folder: ArchiveFolder, name: str) -> bytes:
    with folder.store.open(folder.path("videos", name), "rb") as file:
        replaces: bytes = (pq.read_schema(file).metadata or {}).get(b"vsg_replaces", b"")
        return replaces


def _replaced(folder: ArchiveFolder, name: str) -> list[str]:
    """The names of the packed files that a packed file replaces."""
    try:
        return _metadata(folder, name).decode().split()
    except FileNotFoundError:
        return []


def _counting(folder: ArchiveFolder) -> tuple[set[str], set[str]]:
    """The names in `videos` that count, and the keys of deleted videos."""
    listed = _steady_names(folder)
    packed = {name for name in listed if is_packed(name)}
    packed -= {old for name in packed for old in _replaced(folder, name)}
    single = {name for name in listed if not is_packed(name)}
    deleted = folder.hidden()
    if single:
        single -= deleted.union(*(packed_videos(folder, name) for name in packed))
    return packed | single, deleted


def _steady_names(folder: ArchiveFolder) -> set[str]:
    """The names in `videos`. A listing during which a packed file appears may lack it, and what it replaces."""
    names = folder.names("videos")
    while True:
        again = folder.names("videos")
        if {name for name in names if is_packed(name)} == {name for name in again if is_packed(name)}:
            return names
        names = again


def _videos_of(folder: ArchiveFolder, found: Files) -> set[str]:
    single = {name for name in found.names if not is_packed(name)}
    packed = (_packed_videos(folder, name) for name in found.names if is_packed(name))
    return single.union(*packed) - found.deleted

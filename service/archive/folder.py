"""The files of an archive, in a folder of a disk or under any fsspec URL.

    archive.json                 version of the schema
    videos/KEY.parquet           rows of one video, and so of the other tables
    videos/packed-….parquet      rows of many videos
    deleted/KEY                  an empty file: the video is deleted, and its rows go with the next compaction

The file in `videos` is written last: without it, the files of the same name in the other tables do not count. So all
rows of a video appear at once. It is deleted last too, when no reader counts it any more, so that a process that is
killed meanwhile leaves no rows that nobody knows of.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final, Literal, get_args

import fsspec

from service.archive.errors import ArchiveError, ArchiveFull

SCHEMA_VERSION: Final = 1
"""Of the columns in `tables`. An archive of another version is refused."""

TableName = Literal["videos", "objects", "relations", "frames"]
TABLE_NAMES: Final[tuple[TableName, ...]] = get_args(TableName)

_PROBE_BYTES = 1 << 16
_PACKED = "packed-"
_ENDING = ".parquet"
_PART = ".part"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Stores of buckets have no folders.
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "oss", "oci"})


def is_packed(name: str) -> bool:
    """Whether a file of this name, without its ending, has the rows of many videos."""
    return name.startswith(_PACKED)


def new_packed_name() -> str:
    """A name for a file with the rows of many videos."""
    return _PACKED + secrets.token_hex(8)


class ArchiveFolder:
    """An archive's files. All methods block.

    They raise ArchiveFull where the disk has no room, and what the store raises where it does not answer: OSError for
    a disk, errors of its library for another.

    url: the folder, or the URL such as `s3://BUCKET/PREFIX`.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        """Raises ArchiveError where there is no such kind of storage, or its library is not installed."""
        self.url = os.fspath(url)
        try:
            # Listings must not be cached, because other processes write here too.
            self.store, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            extra = "video-scene-graph[s3]" if self.url.startswith("s3") else "the library that fsspec names for it"
            raise ArchiveError(f"{self.url} needs a library: install it with: pip install {extra!r}") from error
        except ValueError as error:
            raise ArchiveError(
                f"{self.url} is no archive: give a folder, or a URL such as s3://BUCKET/PREFIX"
            ) from error
        kinds = {self.store.protocol} if isinstance(self.store.protocol, str) else set(self.store.protocol)
        self.is_local = "file" in kinds
        self._has_folders = not kinds & _BUCKETS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArchiveFolder) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def make(self) -> None:
        """Makes the archive where there is none. Raises ArchiveError for one of another version."""
        if self._version() is None:
            for name in TABLE_NAMES:
                self._make_folder(f"{self._root}/{name}")
            self._make_folder(f"{self._root}/deleted")
            self._write(self._marker, json.dumps({"schema_version": SCHEMA_VERSION}).encode() + b"\n")
        self.check()

    def check(self) -> None:
        """Raises ArchiveError where there is no archive, or one of another version."""
        version = self._version()
        if version is None:
            raise ArchiveError(f"{self.url} is no archive: write one with `vsg batch SOURCE --to {self.url}`")
        if version != SCHEMA_VERSION:
            raise ArchiveError(
                f"{self.url} is an archive of version {version}, and this program reads version {SCHEMA_VERSION}: "
                "write a new one with `vsg batch`"
            )

    def _version(self) -> int | None:
        try:
            return int(json.loads(self.store.cat_file(self._marker))["schema_version"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f'{self.url}/archive.json is damaged: write {{"schema_version": 1}} into it') from error

    def probe(self) -> None:
        """Writes a small file and deletes it, to see whether there is room."""
        path = f"{self._root}/probe.{secrets.token_hex(8)}"
        try:
            self._write(path, bytes(_PROBE_BYTES))
        finally:
            with suppress(Exception):  # what made the probe fail is raised, not this
                self._remove(path)

    def names(self, table: TableName) -> set[str]:
        """The names of a table's files, without their ending."""
        return {name.removesuffix(_ENDING) for name in self._listed(table) if name.endswith(_ENDING)}

    def path(self, table: TableName, name: str) -> str:
        """The path of a file within `store`."""
        return f"{self._root}/{table}/{name}{_ENDING}"

    def address(self, table: TableName, name: str) -> str:
        """The path of a file on a disk, or its URL, for pandas, polars and DuckDB."""
        path = self.path(table, name)
        return path if self.is_local else str(self.store.unstrip_protocol(path))

    def write(self, table: TableName, name: str, content: bytes) -> None:
        """Writes a file. It appears whole, and outlives a loss of power, or it does not appear."""
        self._write(self.path(table, name), content)

    def sizes(self, table: TableName) -> dict[str, int]:
        """The sizes in bytes of a table's files, by name."""
        paths = ((described["name"].rpartition("/")[2], described["size"]) for described in self._described(table))
        return {name.removesuffix(_ENDING): size for name, size in paths if name.endswith(_ENDING)}

    def remove(self, name: str) -> None:
        """Deletes the files of a name in all tables, those that there are; last the one in `videos`."""
        for table in reversed(TABLE_NAMES):
            self._remove(self.path(table, name))

    def delete(self, video: str) -> None:
        """Deletes a video. Readers miss it at once; rows in a packed file go with the next compaction."""
        self.hide(video)
        self.remove(video)

    def hide(self, video: str) -> None:
        """Notes that a video is deleted: no reader sees its rows from now on."""
        self._write(f"{self._root}/deleted/{video}", b"")

    def hidden(self) -> set[str]:
        """The keys of videos that are deleted, and whose rows may still be there."""
        return {name for name in self._listed("deleted") if not name.endswith(_PART)}

    def unhide(self, video: str) -> None:
        """Forgets that a video is deleted, because its rows are gone."""
        self._remove(f"{self._root}/deleted/{video}")

    def remove_unfinished(self, seconds: float) -> None:
        """Deletes what killed writers left this many seconds ago: parts of files, and rows without their video."""
        videos = self.names("videos")
        for table in (*TABLE_NAMES, "deleted"):
            for described in self._described(table):
                name = described["name"].rpartition("/")[2]
                is_part = name.endswith(_PART)
                is_orphan = table not in ("videos", "deleted") and name.removesuffix(_ENDING) not in videos
                if (is_part or is_orphan) and _age(described) > seconds:
                    self._remove(described["name"])

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Yields whether no other process compacts the archive. Only a disk can tell: other stores yield True."""
        if not self.is_local:
            yield True
            return
        lock = os.open(f"{self._root}/.compacting", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(lock)

    @property
    def _marker(self) -> str:
        return f"{self._root}/archive.json"

    def _listed(self, folder: str) -> list[str]:
        path = f"{self._root}/{folder}"
        with suppress(FileNotFoundError):
            if self.is_local:
                return os.listdir(path)  # a hundred times as quick as fsspec, which asks for each file's size
            return [found.rpartition("/")[2] for found in self.store.ls(path, detail=False)]
        return []

    def _described(self, folder: str) -> list[dict[str, Any]]:
        with suppress(FileNotFoundError):
            found: list[dict[str, Any]] = self.store.ls(f"{self._root}/{folder}", detail=True)
            return found
        return []

    def _write(self, path: str, content: bytes) -> None:
        if not self.is_local:
            self.store.pipe_file(path, content)  # appears when it is whole
            return
        folder, _, name = path.rpartition("/")
        part = f"{folder}/.{name}.{secrets.token_hex(4)}{_PART}"
        try:
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            _sync_folder(folder)
        except OSError as error:
            with suppress(OSError):
                os.unlink(part)
            if error.errno in _NO_ROOM:
                raise ArchiveFull(f"{self.url} has no room left: make some, and run the same command again") from error
            raise

    def _remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self.store.rm_file(path)

    def _make_folder(self, path: str) -> None:
        if self._has_folders:
            self.store.makedirs(path, exist_ok=True)


def _sync_folder(path: str) -> None:
    """Puts the names of a folder's files to the disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _age(described: dict[str, Any]) -> float:
    """Seconds since a file was written."""
    written = next(
        (described[key] for key in ("mtime", "LastModified", "last_modified", "updated") if described.get(key)), None
    )
    if written is None:
        return 0.0
    return time.time() - (written.timestamp() if isinstance(written, datetime) else float(written))

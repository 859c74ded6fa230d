"""The videos of an archive one by one, each with all its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter

from models.graph.vocabulary import Vocabulary
from service.archive.errors import ArchiveError
from service.archive.folder import TABLE_NAMES, ArchiveFolder, TableName
from service.archive.reading import files, read_file

Row = dict[str, Any]

_VOCABULARY = TypeAdapter(Vocabulary)


@dataclass(frozen=True)
class ArchivedVideo:
    """A video that has a graph, with its rows by column."""

    row: Row
    objects: list[Row]
    relations: list[Row]
    frames: list[Row]

    @property
    def key(self) -> str:
        """Its key in all tables."""
        key: str = self.row["video"]
        return key

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that its model knows."""
        return _VOCABULARY.validate_json(self.row["vocabulary"])

    def picture_name(self, frame: Row) -> str:
        """The name of a frame's picture, for programs that want one: `KEY/SECONDS.jpg`."""
        return f"{self.key}/{frame['timestamp']:010.4f}.jpg"


def archived_videos(folder: ArchiveFolder, wanted: Collection[str] | None = None) -> Iterator[ArchivedVideo]:
    """Yields the videos that have a graph, those of one file at a time.

    wanted: their keys; None for all.

    Raises ArchiveError where a wanted video is not there, or a file was compacted meanwhile.
    """
    found = files(folder)
    there = {table: set(names) for table, names in found.by_table.items()}
    missing = set(wanted or ())
    for name in found.names:
        try:
            tables = {table: _by_video(folder, table, name) for table in TABLE_NAMES if name in there[table]}
        except FileNotFoundError as error:
            raise ArchiveError(f"{folder.url} was compacted while it was read: run this command again") from error
        for key, [row] in tables["videos"].items():
            if key in found.deleted or (wanted is not None and key not in wanted):
                continue
            missing.discard(key)
            if row["problem"] is None:
                rest = (tables.get(table, {}).get(key, []) for table in TABLE_NAMES[1:])
                yield ArchivedVideo(row, *rest)
    if missing:
        raise ArchiveError(f"{folder.url} has no video {min(missing)!r}: the column `video` of videos/ has the keys")


def _by_video(folder: ArchiveFolder, table: TableName, name: str) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for row in read_file(folder, table, name).to_pylist():
        rows.setdefault(row["video"], []).append(row)
    return rows

"""Appends graphs to an archive."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from service.archive.folder import SCHEMA_VERSION, TABLE_NAMES, ArchiveFolder, TableName, new_packed_name
from service.archive.tables import SORTED_BY, TABLES, Rows

# Threads of DuckDB share a file by its row groups. Four times as many rows a group would double the time of a search.
_ROWS_OF_A_GROUP = 122_880
_MOST_BYTES_OF_A_DICTIONARY = 4 << 20
VERSION_KEY = b"vsg_schema_version"
"""Names the version of the schema in the metadata of each file."""


def append(folder: ArchiveFolder, rows: Rows) -> None:
    """Appends the rows of one video, as `graph_rows` and `problem_rows` make them. They appear all at once.

    The file is named by the video's key: to append the same video again, for instance after a kill, changes nothing.

    Raises ValueError where the rows are not those of one video; ArchiveFull; what the store raises.
    """
    videos = rows["videos"]
    if videos.num_rows != 1:
        raise ValueError(f"there are {videos.num_rows} videos: append one, or use append_many")
    _write(folder, videos["video"][0].as_py(), rows)


def append_many(folder: ArchiveFolder, rows: Rows, *, replaces: Iterable[str] = ()) -> str:
    """Appends the rows of many videos in one file a table, sorted. They appear all at once.

    replaces: names of packed files whose rows these are; they no longer count from the moment that this one appears.

    Returns the name of the files. Raises ArchiveFull and what the store raises.
    """
    name = new_packed_name()
    _write(folder, name, {table: sorted_rows(table, of_table) for table, of_table in rows.items()}, replaces)
    return name


def sorted_rows(name: TableName, rows: pa.Table) -> pa.Table:
    """The rows in the order that an archive keeps them in."""
    return rows.sort_by(list(SORTED_BY[name]))


def _write(folder: ArchiveFolder, name: str, rows: Rows, replaces: Iterable[str] = ()) -> None:
    # `videos` comes last: without it, the other rows do not count.
    for table in reversed(TABLE_NAMES):
        if table in rows:
            folder.write(table, name, parquet(table, rows[table], replaces))


def parquet(name: TableName, rows: pa.Table, replaces: Iterable[str] = ()) -> bytes:
    """The content of a file of a table."""
    schema = TABLES[name].with_metadata(
        {VERSION_KEY: str(SCHEMA_VERSION).encode(), b"vsg_replaces": " ".join(replaces).encode()}
    )
    content = BytesIO()
    pq.write_table(
        rows.select(schema.names).cast(schema).unify_dictionaries(),
        content,
        compression="zstd",
        row_group_size=_ROWS_OF_A_GROUP,
        dictionary_pagesize_limit=_MOST_BYTES_OF_A_DICTIONARY,
    )
    return content.getvalue()

"""Runs queries: over an archive, or over one graph in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, Final, TypeVar

import duckdb
from pydantic import TypeAdapter

from models.graph.scene_graph import SceneGraph
from models.graph.vocabulary import Vocabulary
from service.archive.folder import ArchiveFolder, TableName
from service.archive.reading import Files, steadily
from service.archive.tables import TABLES, Rows, Source, graph_rows
from service.graph.document import GraphReader, write_graph
from service.search.errors import SearchTooSlow
from service.search.queries import Query
from service.search.sql import Statement, compile_tree
from service.search.words import LABEL_GROUPS, Words

MOST_SECONDS: Final = 30.0
_MEMORY: Final = "2GB"
_VOCABULARY: Final = TypeAdapter(Vocabulary)
_CONNECTING: Final = threading.Lock()
_ALL: Final = 2**62  # as a limit
_SEARCHED: Final[tuple[TableName, ...]] = ("videos", "objects", "relations")

T = TypeVar("T")


@dataclass(frozen=True)
class ProvenRelation:
    """A relation of a graph that proves a moment, with the fields that it has there and the labels of its objects."""

    subject: int
    subject_label: str
    predicate: str
    object: int
    object_label: str
    start: float
    end: float
    score: float
    relation_score: float | None


@dataclass(frozen=True)
class Moment:
    """A time of a video in which a query holds.

    video: key of the video in its archive.
    path: of the video's file; None for one that was posted.
    graph_id: id of its graph, as in `GET /videos/{id}`.
    start, end: seconds from the first frame; half open.
    score: the lowest score of the relations that prove it, and of the objects where the query asks whether they are
        seen.
    relation_score: the lowest relation score; None where the model has no relation scorer.
    objects: what a thing is called in the query to the id of its object, or to the ids where it is counted.
    relations: those that prove it, in the order of the query.
    """

    video: str
    path: str | None
    graph_id: str | None
    start: float
    end: float
    score: float
    relation_score: float | None
    objects: Mapping[str, int | tuple[int, ...]]
    relations: tuple[ProvenRelation, ...]


@dataclass(frozen=True)
class Moments:
    """A page of the moments that a search finds.

    moments: best score first, then by video and time.
    total: number of all that it finds.
    next: offset of the next page; None on the last one.
    """

    moments: tuple[Moment, ...]
    total: int
    next: int | None


def words_of(
    archive: ArchiveFolder, *, owner: str | None = None, label_groups: Mapping[str, Sequence[str]] = LABEL_GROUPS
) -> Words:
    """Returns the words that queries of an archive may use: those of the vocabularies of an owner's videos.

    owner: None for all videos, "" for those of nobody.
    label_groups: group to words for its labels.

    Raises ArchiveError for what is no archive.
    """
    sql = "SELECT DISTINCT vocabulary FROM videos WHERE vocabulary IS NOT NULL ORDER BY ALL"
    texts = _in_archive(archive, owner, lambda search: search.rows(sql))
    return Words.of(*(_VOCABULARY.validate_json(text) for (text,) in texts), label_groups=label_groups)


def find_moments(
    archive: ArchiveFolder,
    query: Query,
    *,
    owner: str | None = None,
    limit: int = 20,
    offset: int = 0,
    seconds: float = MOST_SECONDS,
) -> Moments:
    """Finds the moments of an archive in which a query holds.

    owner: whose videos are searched; None for all, "" for those of nobody.
    limit, offset: of the page.
    seconds: after which the search is given up.

    Raises SearchTooSlow, and ArchiveError for what is no archive.
    """
    return _in_archive(archive, owner, lambda search: search.page(query, limit, offset), seconds)


def find_in_graph(graph: SceneGraph, query: Query) -> list[Moment]:
    """Finds the moments of one graph. Raises SearchTooSlow."""
    return find_in_rows(rows_of(graph), query)


def rows_of(graph: SceneGraph) -> Rows:
    """Returns the rows of a graph for `find_in_rows`, which serve many queries."""
    document = BytesIO()
    write_graph(
        document,
        id=graph.id,
        video=graph.video,
        model=graph.model,
        options=graph.options,
        vocabulary=graph.vocabulary,
        frames=graph.frames,
        relations=graph.relations,
        prompt=str,
        timings=dict,
        warnings=(),
    )
    return graph_rows(GraphReader([document.getvalue()]), Source(video=""))


def find_in_rows(rows: Rows, query: Query, *, seconds: float = MOST_SECONDS) -> list[Moment]:
    """Finds the moments of graphs whose rows are at hand, as `graph_rows` makes them. Raises SearchTooSlow."""
    with _connection() as connection:
        for name in _SEARCHED:
            connection.register(f"{name}_rows", rows.get(name, TABLES[name].empty_table()))
        tables = [f"{name} AS (SELECT * FROM {name}_rows)" for name in _SEARCHED]
        return list(_Search(connection, tables, {}, seconds).page(query, _ALL, 0).moments)


class _Search:
    """Runs SQL over the tables `videos`, `objects` and `relations`.

    tables: common table expressions that make these three.
    parameters: values of the parameters in them.
    seconds: after which a statement is given up.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        tables: Sequence[str],
        parameters: Mapping[str, Any],
        seconds: float,
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._parameters = parameters
        self._seconds = seconds

    def rows(self, select: str, tables: Sequence[str] = (), parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """The rows of a SELECT. Raises SearchTooSlow."""
        timer = threading.Timer(self._seconds, self._connection.interrupt)
        timer.start()
        try:
            statement = f"WITH {', '.join([*self._tables, *tables])} {select}"
            return self._connection.execute(statement, {**self._parameters, **(parameters or {})}).fetchall()
        except duckdb.InterruptException as error:
            detail = f"the search took longer than {self._seconds:g} s: ask for less, such as a rarer predicate"
            raise SearchTooSlow(detail) from error
        except duckdb.OutOfMemoryException as error:
            detail = f"the search needs more than {_MEMORY} of memory: ask for less, such as a rarer predicate"
            raise SearchTooSlow(detail) from error
        finally:
            timer.cancel()

    def page(self, query: Query, limit: int, offset: int) -> Moments:
        """A part of the moments of a query, with the number of all. Raises SearchTooSlow."""
        compiled = compile_tree(query.root)
        columns = [*compiled.things, *compiled.proofs]
        order = ", ".join(['score DESC, video, start, "end"', *columns])
        selected = ", ".join(['video, path, graph_id, start, "end", score, relation_score', *columns])
        tables = [
            *compiled.tables,
            f"found AS MATERIALIZED (SELECT * FROM {compiled.moments})",
            f"page AS (SELECT * FROM found ORDER BY {order} LIMIT $limit OFFSET $offset)",
            "places AS (SELECT video, path, graph_id FROM videos WHERE video IN (SELECT video FROM page))",
        ]
        rows = self.rows(
            f"SELECT total, {selected} FROM (SELECT count(*) AS total FROM found) "
            f"LEFT JOIN (page JOIN places USING (video)) ON TRUE ORDER BY {order}",
            tables,
            {**compiled.parameters, "limit": limit, "offset": offset},
        )
        total = rows[0][0]
        moments = tuple(_moment(row[1:], compiled) for row in rows if row[1] is not None)
        is_last = offset + len(moments) >= total or not moments
        return Moments(moments, total, None if is_last else offset + len(moments))


def _moment(row: Sequence[Any], compiled: Statement) -> Moment:
    video, path, graph_id, start, end, score, relation_score, *columns = row
    ids, proofs = columns[: len(compiled.things)], columns[len(compiled.things) :]
    objects = {
        name: tuple(found) if isinstance(found, list) else found
        for name, found in zip(compiled.things.values(), ids, strict=True)
        if found is not None
    }
    proven = [relation for proof in proofs for relation in (proof if isinstance(proof, list) else [proof]) if relation]
    relations = tuple(ProvenRelation(**relation) for relation in proven)
    return Moment(video, path, graph_id, start, end, score, relation_score, objects, relations)


def _in_archive(
    archive: ArchiveFolder, owner: str | None, work: Callable[[_Search], T], seconds: float = MOST_SECONDS
) -> T:
    """Does a piece of work over the files of an archive that count, and over the rows of one owner only."""
    archive.check()

    def search(files: Files) -> T:
        parameters: dict[str, Any] = {}
        conditions = ["TRUE"]
        if owner is not None:
            parameters["owner"] = owner
            conditions.append("owner = $owner")
        if files.deleted:
            parameters["deleted"] = sorted(files.deleted)
            conditions.append("video NOT IN (SELECT unnest($deleted))")
        with _connection(archive.url) as connection:
            tables = []
            for name in _SEARCHED:
                rows = f"{name}_rows"
                if addresses := files.addresses[name]:
                    parameters[name] = list(addresses)
                    rows = f"read_parquet(${name})"
                else:
                    connection.register(rows, TABLES[name].empty_table())
                tables.append(f"{name} AS (SELECT * FROM {rows} WHERE {' AND '.join(conditions)})")
            return work(_Search(connection, tables, parameters, seconds))

    return steadily(archive, search)


def _connection(folder: str | None = None) -> closing[duckdb.DuckDBPyConnection]:
    with _CONNECTING:
        return closing(_database(folder).cursor())


@lru_cache(maxsize=8)
def _database(folder: str | None) -> duckdb.DuckDBPyConnection:
    """A database in memory that can read the files of a folder, and nothing else. It remembers where columns lie."""
    database = duckdb.connect(":memory:", config={"memory_limit": _MEMORY, "temp_directory": ""})
    if folder is not None:
        archive = ArchiveFolder(folder)
        if not archive.is_local:
            database.register_filesystem(archive.store)
        root = archive.address("videos", "any").rpartition("videos/")[0].replace("'", "''")
        database.execute(f"SET allowed_directories = ['{root}']")
    database.execute("SET parquet_metadata_cache = true")
    database.execute("SET enable_external_file_cache = false")  # the system caches files already
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database

"""Compiles a query's tree into one SQL statement for DuckDB.

The statement reads the relations `videos`, `objects` and `relations` with the columns of `service.archive.tables`. All
values are bound parameters; names of columns and tables are made here. Nothing of a query's text comes into it.

Every node becomes a common table expression of moments with these columns:
    video, interval: of the video.
    start, end: of the moment.
    score, relation_score: the lowest of the relations that prove it; relation_score is null where none has one.
    v0, v1, …: id of the object that a variable stands for; null where one side of `or` does not name it.
    b0, b1, …: the same for things without a variable. c0, c1, …: ids of all objects that a counted thing stands for.
    r1, r2, …: the relation that proves a triple. m1, m2, …: the relations that prove a counted triple.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from service.search.allen import SHARES_TIME, condition_of
from service.search.tree import (
    Both,
    Count,
    Either,
    InVideo,
    Lasting,
    Node,
    Not,
    Presence,
    Related,
    Scored,
    Then,
    Thing,
    Triple,
    WholeVideo,
    Without,
    conjuncts,
)

_BOUNDS: Final = {"at least": ">=", "at most": "<=", "exactly": "="}
_SHARED: Final = 'video, interval, start, "end", score, relation_score'
_NO_SCORE: Final = "NULL::DOUBLE AS relation_score"
_RELATION = (
    "struct_pack(subject := subject, subject_label := subject_label::VARCHAR, predicate := predicate::VARCHAR, "
    "object := object, object_label := object_label::VARCHAR, "
    'start := start, "end" := "end", score := score, relation_score := relation_score)'
)
# The part of a video that was looked at. Where as many frames were sampled as may be, only they tell how far it goes.
_SEEN: Final = """
    SELECT video, interval, begun AS start, CASE WHEN frames < most THEN coalesce(ends, sampled) ELSE sampled END
        AS "end"
    FROM (
        SELECT *, begun + frames * interval AS sampled, least(duration, CAST(options ->> '$.end' AS DOUBLE)) AS ends
        FROM (
            SELECT *, CAST(options ->> '$.start' AS DOUBLE) AS begun, CAST(options ->> '$.max_frames' AS BIGINT) AS most
            FROM videos WHERE problem IS NULL
        )
    )
"""


@dataclass(frozen=True)
class Statement:
    """A query in SQL.

    tables: common table expressions, each after those that it reads.
    moments: name of the one that has the query's moments.
    parameters: values of the bound parameters, by name.
    things: columns of ids to what the things are called in an answer, in the query's order.
    proofs: columns of relations, in the query's order.
    """

    tables: Sequence[str]
    moments: str
    parameters: Mapping[str, Any]
    things: Mapping[str, str]
    proofs: Sequence[str]


@dataclass(frozen=True)
class _Moments:
    """A table of moments.

    things: columns of ids.
    always: those of them that are never null.
    proofs: columns of relations.
    distinct: whether objects and relations tell every two moments of a video apart.
    """

    table: str
    things: tuple[str, ...] = ()
    always: frozenset[str] = frozenset()
    proofs: tuple[str, ...] = ()
    distinct: bool = True


def compile_tree(root: Node) -> Statement:
    """Compiles a tree."""
    compiler = _Compiler()
    found = compiler.moments(root)
    things = {column: name for (_, name), column in compiler.columns.items() if column in found.things}
    return Statement(compiler.tables, found.table, compiler.parameters, things, found.proofs)


class _Compiler:
    """Compiles node by node.

    tables: common table expressions so far.
    parameters: values so far, by name.
    columns: kind and name of a thing to its column.
    """

    def __init__(self) -> None:
        self.tables: list[str] = []
        self.parameters: dict[str, Any] = {}
        self.columns: dict[tuple[str, str], str] = {}
        self._named: Counter[str] = Counter()
        self._proven: Counter[str] = Counter()

    def moments(self, node: Node) -> _Moments:
        """Adds the table of a node's moments."""
        match node:
            case Triple(subject, _, thing):
                return self._counted_triple(node) if subject.count or thing.count else self._triple(node)
            case Presence(thing):
                return self._counted(self._seen(thing, "counted"), thing) if thing.count else self._presence(thing)
            case WholeVideo():
                return self._add(
                    f'SELECT video, interval, start, "end", 1.0::DOUBLE AS score, {_NO_SCORE} FROM ({_SEEN})'
                )
            case Lasting(part, bound, seconds):
                return self._kept(part, f'round("end" - start, 4) {_BOUNDS[bound]} {self._value(seconds)}')
            case Scored(part, score, comparison, value):
                return self._kept(part, f"{score} {comparison} {self._value(value)}")
            case InVideo(part, pattern):
                like = " OR ".join(f"path LIKE {self._value(text)} ESCAPE '!'" for text in _like(pattern))
                return self._kept(part, f"video IN (SELECT video FROM videos WHERE {like})")
            case Both() | Not():
                return self._both(conjuncts(node))
            case Without(left, right):
                return self._without(self.moments(left), self._aside(right))
            case Either(left, right):
                return self._either(left, right)
            case Related(left, relation, right):
                return self._joined(
                    self.moments(left), self.moments(right), condition_of(relation), "l.start", 'l."end"'
                )
            case Then(left, right, within):
                condition = condition_of("before")
                if within is not None:
                    condition += f' AND round(r.start - l."end", 4) <= {self._value(within)}'
                return self._joined(self.moments(left), self.moments(right), condition, "l.start", 'r."end"')

    def _triple(self, node: Triple) -> _Moments:
        subject, thing, proof = self._column(node.subject), self._column(node.object), self._proof("r")
        columns = {subject: "subject", thing: "object"}
        same = " AND subject = object" if subject == thing else ""
        return self._add(
            f"SELECT {_SHARED}{_columns(columns)}, {_RELATION} AS {proof} "
            f"FROM relations WHERE {self._matches(node)}{same}",
            things=columns,
            proofs=[proof],
        )

    def _presence(self, thing: Thing) -> _Moments:
        column = self._column(thing)
        return _Moments(self._seen(thing, column), (column,), frozenset({column}))

    def _seen(self, thing: Thing, column: str) -> str:
        """Adds a table of the times in which things are seen, with their ids in a column."""
        return self._add(
            f'SELECT video, interval, first AS start, last AS "end", score, {_NO_SCORE}, id AS {column} '
            f"FROM objects WHERE {self._among('label', thing.labels)}"
        ).table

    def _counted_triple(self, node: Triple) -> _Moments:
        counted, other = (node.subject, node.object) if node.subject.count else (node.object, node.subject)
        ids = ("subject", "object") if node.subject.count else ("object", "subject")
        source = self._add(
            f"SELECT {_SHARED}, {ids[0]} AS counted, {ids[1]} AS other, {_RELATION} AS proof "
            f"FROM relations WHERE {self._matches(node)}"
        )
        return self._counted(source.table, counted, other)

    def _counted(self, source: str, counted: Thing, other: Thing | None = None) -> _Moments:
        """Adds the longest times in which so many different objects are there at once.

        source: a table of moments with the column `counted`, and, where there is another side, `other` and `proof`.
        """
        columns = {self._column(counted, "c"): "list_sort(list(DISTINCT r.counted))"}
        keys = ["video"]
        if other is not None and other.variable is not None:
            keys.append("other")
            columns |= {self._column(other): "l.other"}
        proofs = {} if other is None else {self._proof("m"): "list_sort(list(r.proof))"}
        each, apart = ", ".join(keys), ", ".join(f"l.{key}" for key in keys)
        once = self._coalesced(source, [*keys, "counted"])
        changes = self._add(
            f"SELECT {each}, t, sum(change) AS change FROM (SELECT {each}, start AS t, 1 AS change FROM {once} "
            f'UNION ALL SELECT {each}, "end" AS t, -1 AS change FROM {once}) GROUP BY {each}, t'
        )
        numbers = self._add(
            f'SELECT {each}, t AS start, lead(t) OVER times AS "end", sum(change) OVER times AS number '
            f"FROM {changes.table} WINDOW times AS (PARTITION BY {each} ORDER BY t)"
        )
        found = self._coalesced(numbers.table, keys, f'"end" IS NOT NULL AND {self._enough(counted)}')
        same = " AND ".join(f"l.{key} = r.{key}" for key in keys)
        return self._add(
            f'SELECT {apart}, any_value(r.interval) AS interval, l.start, l."end", min(r.score) AS score, '
            f"min(r.relation_score) AS relation_score{_columns(columns | proofs)} "
            f'FROM {found} l JOIN {source} r ON {same} AND {SHARES_TIME} GROUP BY {apart}, l.start, l."end"',
            things=columns,
            proofs=proofs,
            distinct=False,
        )

    def _coalesced(self, source: str, keys: Sequence[str], condition: str = "TRUE") -> str:
        """Adds the longest intervals that the rows of equal keys cover together. Empty intervals cover nothing."""
        each = ", ".join(keys)
        return self._add(
            f'SELECT {each}, min(start) AS start, max("end") AS "end" FROM ('
            f'SELECT *, sum(begins) OVER (PARTITION BY {each} ORDER BY start, "end") AS stretch FROM ('
            f'SELECT *, (start > coalesce(max("end") OVER (PARTITION BY {each} ORDER BY start, "end" '
            f"ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), '-infinity'::DOUBLE))::INTEGER AS begins "
            f'FROM {source} WHERE start < "end" AND {condition})) GROUP BY {each}, stretch'
        ).table

    def _enough(self, thing: Thing) -> str:
        count = thing.count or Count("at least", 1)
        return f"number >= 1 AND number {_BOUNDS[count.bound]} {self._value(count.number)}"

    def _both(self, parts: Sequence[Node]) -> _Moments:
        """Joins the parts that say what is, then takes away the times of those that say what is not."""
        positive: list[Node] = [part for part in parts if not isinstance(part, Not)]
        positive = positive or [WholeVideo()]
        found = self.moments(positive[0])
        for part in positive[1:]:
            times = ("greatest(l.start, r.start)", 'least(l."end", r."end")')
            found = self._joined(found, self.moments(part), SHARES_TIME, *times)
        for part in parts:
            if isinstance(part, Not):
                found = self._gaps(found, self._aside(part.part))
        return found

    def _joined(self, left: _Moments, right: _Moments, condition: str, start: str, end: str) -> _Moments:
        """Adds the pairs of moments of a video that have the same objects and fulfil a condition."""
        things = {column: f"l.{column}" for column in left.things} | {
            column: f"coalesce(l.{column}, r.{column})" if column in left.things else f"r.{column}"
            for column in right.things
        }
        proofs = {column: f"l.{column}" for column in left.proofs} | {column: f"r.{column}" for column in right.proofs}
        # Of the right's interval little may be left. Moments that differed in it alone become one.
        once = "" if right.distinct else "DISTINCT "
        return self._add(
            f'SELECT {once}l.video, l.interval, {start} AS start, {end} AS "end", least(l.score, r.score) AS score, '
            f"least(l.relation_score, r.relation_score) AS relation_score{_columns(things | proofs)} "
            f"FROM {left.table} l JOIN {right.table} r ON {_same(left, right)} AND {condition}",
            things=things,
            always=left.always | right.always,
            proofs=proofs,
            distinct=left.distinct and right.distinct,
        )

    def _without(self, left: _Moments, right: _Moments) -> _Moments:
        return replace(
            left,
            table=self._add(
                f"SELECT * FROM {left.table} l WHERE NOT EXISTS "
                f"(SELECT 1 FROM {right.table} r WHERE {_same(left, right)} AND {SHARES_TIME})"
            ).table,
        )

    def _gaps(self, left: _Moments, right: _Moments) -> _Moments:
        """Adds the longest parts of the left's moments in which no moment of the right with the same objects holds."""
        numbered = self._add(f"SELECT *, row_number() OVER () AS number FROM {left.table}", once=True).table
        marks = self._add(
            f'SELECT l.number, r.start, r."end" FROM {numbered} l JOIN {right.table} r '
            f"ON {_same(left, right)} AND {SHARES_TIME} "
            f'UNION ALL SELECT number, "end", "end" FROM {numbered}'
        ).table
        before = 'PARTITION BY number ORDER BY start, "end" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING'
        start, end = "greatest(l.start, coalesce(m.since, l.start))", 'least(m.upto, l."end")'
        gaps = self._add(
            f'SELECT l.* EXCLUDE (number) REPLACE ({start} AS start, {end} AS "end") FROM {numbered} l '
            f'JOIN (SELECT number, start AS upto, max("end") OVER ({before}) AS since FROM {marks}) m '
            f"ON l.number = m.number WHERE {start} < {end}"
        )
        return replace(left, table=gaps.table, distinct=False)

    def _either(self, left: Node, right: Node) -> _Moments:
        """Adds the moments of both sides. Their things and proofs are numbered alike, so that equal moments are one."""
        before = self._named.copy(), self._proven.copy()
        first = self.moments(left)
        after = self._named, self._proven
        self._named, self._proven = before
        second = self.moments(right)
        self._named, self._proven = self._named | after[0], self._proven | after[1]
        things = list(dict.fromkeys((*first.things, *second.things)))
        proofs = list(dict.fromkeys((*first.proofs, *second.proofs)))

        def rows(side: _Moments) -> str:
            here = {*side.things, *side.proofs}
            columns = {column: column if column in here else "NULL" for column in (*things, *proofs)}
            return f"SELECT {_SHARED}{_columns(columns)} FROM {side.table}"

        return self._add(
            f"{rows(first)} UNION {rows(second)}",
            things=things,
            always=first.always & second.always,
            proofs=proofs,
            distinct=False,
        )

    def _kept(self, part: Node, condition: str) -> _Moments:
        found = self.moments(part)
        return replace(found, table=self._add(f"SELECT * FROM {found.table} WHERE {condition}").table)

    def _aside(self, node: Node) -> _Moments:
        """Adds the moments of a node whose things and proofs do not come into the answer."""
        before = self._named.copy(), self._proven.copy()
        found = self.moments(node)
        self._named, self._proven = before
        return found

    def _matches(self, node: Triple) -> str:
        conditions = (
            self._among("predicate", node.predicates),
            self._among("subject_label", node.subject.labels),
            self._among("object_label", node.object.labels),
        )
        return " AND ".join(conditions)

    def _among(self, column: str, values: tuple[str, ...] | None) -> str:
        return "TRUE" if values is None else f"{column} IN ({', '.join(map(self._value, values))})"

    def _value(self, value: Any) -> str:
        name = f"value{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"

    def _column(self, thing: Thing, kind: str = "b") -> str:
        """The column of a thing's ids. Things without a variable are numbered where a name comes again."""
        if thing.variable is not None:
            kind, name = "v", thing.variable
        else:
            self._named[thing.name] += 1
            number = self._named[thing.name]
            name = thing.name if number == 1 else f"{thing.name} {number}"
        return self.columns.setdefault((kind, name), f"{kind}{len(self.columns)}")

    def _proof(self, kind: str) -> str:
        self._proven[kind] += 1
        return f"{kind}{self._proven[kind]}"

    def _add(
        self,
        select: str,
        *,
        things: Iterable[str] = (),
        always: frozenset[str] | None = None,
        proofs: Iterable[str] = (),
        distinct: bool = True,
        once: bool = False,
    ) -> _Moments:
        """Adds a table.

        always: columns of `things` that are never null; None for all.
        things, proofs, distinct: see `_Moments`.
        once: whether every reader must see the same rows.
        """
        name = f"t{len(self.tables)}"
        self.tables.append(f"{name} AS {'MATERIALIZED ' if once else ''}({select})")
        things = tuple(things)
        return _Moments(name, things, frozenset(things) if always is None else always, tuple(proofs), distinct)


def _same(left: _Moments, right: _Moments) -> str:
    """The condition that moments `l` and `r` are of one video and have the same objects for the same variables."""
    conditions = ["l.video = r.video"]
    for column in left.things:
        if column in right.things and column.startswith("v"):
            unknown = [
                f"{side}.{column} IS NULL" for side, of in (("l", left), ("r", right)) if column not in of.always
            ]
            conditions.append(f"({' OR '.join([f'l.{column} = r.{column}', *unknown])})")
    return " AND ".join(conditions)


def _columns(columns: Mapping[str, str]) -> str:
    """More columns of a SELECT: name to expression."""
    return "".join(f", {expression} AS {name}" for name, expression in columns.items())


def _like(pattern: str) -> tuple[str, str]:
    """A pattern with `*` as LIKE writes it, for a whole path and for its end."""
    escaped = pattern.replace("!", "!!").replace("%", "!%").replace("_", "!_").replace("*", "%")
    return escaped, f"%/{escaped}"

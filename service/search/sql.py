"""Compiles a query's tree into one SQL statement for DuckDB.

The statement reads the relations `videos`, `objects` and `relations` with the columns of `service.archive.tables`. All
values are bound parameters; names of columns and tables are made here. Nothing of a query's text comes into it.

Every node becomes a common table expression of moments with these columns:
    video, interval: of the video.
    start, end: of the moment.
    score, relation_score: the lowest of the relations that prove it; relation_score is null where none has one.
    b0, b1, …: id of the object that a thing stands for; null where a side of `or` does not name it.
    c0, c1, …: ids of the objects that a counted thing stands for.
    r0, r1, …: the relation that proves a triple. m0, m1, …: the relations that prove a counted triple.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

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
    bound_in,
    conjuncts,
    variables_of,
)

TOLERANCE: Final = "(l.interval + 0.001)"
"""One sampling interval, and a millisecond for frames that are not quite evenly spaced."""
_FIRST = 'l.start < r.start AND l."end" < r."end"'
_RELATIONS: Final = {
    "before": f'l."end" <= r.start + {TOLERANCE} AND {_FIRST}',
    "meets": f'abs(l."end" - r.start) <= {TOLERANCE} AND {_FIRST}',
    "overlaps": f'{_FIRST} AND r.start < l."end"',
    "starts": f'abs(l.start - r.start) <= {TOLERANCE} AND l."end" < r."end"',
    "during": f'l.start + {TOLERANCE} >= r.start AND l."end" <= r."end" + {TOLERANCE}',
    "finishes": f'abs(l."end" - r."end") <= {TOLERANCE} AND l.start > r.start',
    "equals": f'abs(l.start - r.start) <= {TOLERANCE} AND abs(l."end" - r."end") <= {TOLERANCE}',
}
_INVERSES: Final = {
    "after": "before",
    "met_by": "meets",
    "overlapped_by": "overlaps",
    "started_by": "starts",
    "contains": "during",
    "finished_by": "finishes",
}
_SHARES_TIME = 'greatest(l.start, r.start) < least(l."end", r."end")'
_BOUNDS: Final = {"at least": ">=", "at most": "<=", "exactly": "="}
_SHARED = ("video", "interval", "start", '"end"', "score", "relation_score")
_RELATION = (
    "struct_pack(subject := subject, subject_label := subject_label::VARCHAR, predicate := predicate::VARCHAR, "
    "object := object, object_label := object_label::VARCHAR, "
    'start := start, "end" := "end", score := score, relation_score := relation_score)'
)
# The part of a video that was looked at.
_SEEN = """
    SELECT video, interval, begun AS start, CASE WHEN frames >= most THEN sampled ELSE coalesce(known, sampled) END AS "end"
    FROM (
        SELECT video, interval, frames, begun, most, begun + frames * interval AS sampled,
            least(duration, CAST(options ->> '$.end' AS DOUBLE)) AS known
        FROM (
            SELECT *, CAST(options ->> '$.start' AS DOUBLE) AS begun, CAST(options ->> '$.max_frames' AS BIGINT) AS most
            FROM videos WHERE problem IS NULL
        )
    )
"""


def condition_of(relation: str) -> str:
    """Returns the condition that moments `l` and `r` stand in one of Allen's relations."""
    if relation in _INVERSES:
        swapped = _RELATIONS[_INVERSES[relation]].replace("l.", "L.").replace("r.", "l.").replace("L.", "r.")
        return swapped
    return _RELATIONS[relation]


@dataclass(frozen=True)
class Statement:
    """A query in SQL.

    tables: common table expressions, in the order in which they build on each other.
    moments: name of the last one, with the moments.
    parameters: values of the bound parameters, by name.
    bindings: words or variable of each thing to its column.
    proofs: columns with relations.
    """

    tables: Sequence[str]
    moments: str
    parameters: Mapping[str, Any]
    bindings: Mapping[str, str]
    proofs: Sequence[str]


def compile_tree(root: Node) -> Statement:
    """Compiles a tree."""
    compiler = _Compiler()
    moments = compiler.compile(root)
    bindings = {name: column for name, column in compiler.columns.items() if column in moments.bindings}
    return Statement(compiler.tables, moments.table, compiler.parameters, bindings, moments.proofs)

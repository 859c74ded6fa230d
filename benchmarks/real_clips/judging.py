"""Judges the graph of a clip by what is true in it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from models.graph.scene_graph import Relation, SceneGraph

Statement = tuple[str, str]
"""A predicate and the label of its object, of any person; `*` in a truth stands for any of them."""

FOREMOST = 5
LEAST_SHARE = 0.1  # of the time of a truth, for which a graph must state it
ANY, PERSON = "*", "person"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Clip(_Part):
    """The truths of a clip, of predicates that run from a person to a thing.

    source: a public repository and a path in it.
    true: predicate, object, and from when to when in seconds.
    possible: statements that are not judged. All that is neither true nor possible is false.
    """

    source: str
    true: list[tuple[str, str, Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]]]
    possible: list[Statement]


class Truths(_Part):
    """The truths of some clips.

    what: what these clips have in common.
    always_possible: statements that are judged in no clip.
    clips: by file name.
    """

    what: str
    always_possible: list[Statement]
    clips: dict[str, Clip]


@dataclass(frozen=True)
class Verdict:
    """How true a graph is.

    foremost: its foremost statements, the first first, and whether each is true.
    found: number of truths that it states.
    known: number of truths.
    """

    foremost: list[tuple[Statement, bool]]
    found: int
    known: int

    @property
    def right(self) -> int:
        """The number of foremost statements that are true."""
        return sum(is_true for _, is_true in self.foremost)


def judge(graph: SceneGraph, clip: Clip, always_possible: list[Statement]) -> Verdict:
    """Judges the five foremost statements of a graph, by score times seconds, and looks for every truth."""
    labels = {thing.id: thing.label for frame in graph.frames for thing in frame.objects}
    interval = 1 / graph.options.fps
    stated: dict[Statement, list[Relation]] = defaultdict(list)
    for relation in graph.relations:
        if labels.get(relation.subject) == PERSON:
            stated[relation.predicate, labels[relation.object]].append(relation)

    def weight(statement: Statement) -> float:
        return sum(each.score * max(each.end - each.start, interval) for each in stated[statement])

    true = {(predicate, label): (start, end) for predicate, label, start, end in clip.true}
    possible = [*clip.possible, *always_possible]
    judged = [each for each in stated if each in true or not any(_fits(each, pattern) for pattern in possible)]
    foremost = sorted(judged, key=weight, reverse=True)[:FOREMOST]

    def is_found(statement: Statement) -> bool:
        start, end = true[statement]
        spans = ((each.start, max(each.end, each.start + interval)) for each in stated[statement])
        covered = sum(max(0.0, min(stop, end) - max(begin, start)) for begin, stop in spans)
        return covered >= LEAST_SHARE * (end - start)

    return Verdict([(each, each in true) for each in foremost], sum(map(is_found, true)), len(true))


def _fits(statement: Statement, pattern: Statement) -> bool:
    return all(said == asked or asked == ANY for said, asked in zip(statement, pattern, strict=True))

"""The language of searches, evaluated in plain Python from the definitions in docs/search.md. Slow, and easy to check.

Parts of a query are tuples, so that nothing is shared with the parser: ("triple", subject, predicates, object),
("presence", thing), ("video",), ("for", part, bound, seconds), ("with", part, field, comparison, value),
("path", part, pattern), ("not", part), ("without", left, right), ("and", left, right), ("or", left, right),
(relation, left, right) for Allen's, ("then", left, right, within).
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

Part = tuple[Any, ...]
_INVERSES = {
    "after": "before",
    "met_by": "meets",
    "overlapped_by": "overlaps",
    "started_by": "starts",
    "contains": "during",
    "finished_by": "finishes",
}
_BOUNDS: Mapping[str, Callable[[float, float], bool]] = {
    "at least": operator.ge,
    "at most": operator.le,
    "exactly": operator.eq,
}
_COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class PlainThing:
    """An object of a query. count: bound and number."""

    word: str
    labels: frozenset[str] | None = None
    variable: str | None = None
    count: tuple[str, int] | None = None


@dataclass(frozen=True)
class PlainRelation:
    """A relation of a graph; `key` tells it from the others."""

    key: tuple[Any, ...]
    subject: int
    predicate: str
    object: int
    start: float
    end: float
    score: float
    relation_score: float | None


@dataclass(frozen=True)
class PlainVideo:
    """A video with its graph. objects: id to label, first, last, score. seen: the part that was sampled."""

    key: str
    path: str | None
    interval: float
    seen: tuple[float, float]
    objects: Mapping[int, tuple[str, float, float, float]]
    relations: Sequence[PlainRelation]


@dataclass(frozen=True)
class Found:
    """A moment. variables, words: name to id, or to ids where objects are counted."""

    start: float
    end: float
    score: float = 1.0
    relation_score: float | None = None
    variables: tuple[tuple[str, int], ...] = ()
    words: tuple[tuple[str, Any], ...] = ()
    proof: tuple[tuple[Any, ...], ...] = ()

    @property
    def answer(self) -> tuple[Any, ...]:
        objects = tuple(sorted({**dict(self.words), **dict(self.variables)}.items()))
        return (self.start, self.end, self.score, self.relation_score, objects, tuple(sorted(self.proof)))


def evaluate(part: Part, video: PlainVideo) -> set[tuple[Any, ...]]:
    """All moments of a query in a video, as (start, end, score, relation score, objects, proof)."""
    return {found.answer for found in _Evaluation(video).moments(part)}


@dataclass
class _Evaluation:
    video: PlainVideo
    named: Counter[str] = field(default_factory=Counter)

    def moments(self, part: Part) -> list[Found]:
        match part:
            case ("triple", subject, _, thing):
                if subject.count or thing.count:
                    return self._counted(part)
                names = self._name(subject), self._name(thing)
                return [found for relation in self._fitting(part) if (found := _of(relation, names)) is not None]
            case ("presence", thing):
                if thing.count:
                    return self._counted(part)
                name = self._name(thing)
                return [
                    _with_ids(Found(first, last, score), [(name, id)])
                    for id, _, first, last, score in self._seen(thing)
                ]
            case ("video",):
                return [Found(*self.video.seen)]
            case ("for", inner, bound, seconds):
                return [one for one in self.moments(inner) if _BOUNDS[bound](round(one.end - one.start, 4), seconds)]
            case ("with", inner, kind, comparison, value):
                scored = ((one, getattr(one, kind)) for one in self.moments(inner))
                return [one for one, score in scored if score is not None and _COMPARISONS[comparison](score, value)]
            case ("path", inner, pattern):
                expression = "(.*/)?" + ".*".join(map(re.escape, pattern.split("*")))
                fits = self.video.path is not None and re.fullmatch(expression, self.video.path, re.DOTALL)
                return self.moments(inner) if fits else self.moments(inner)[:0]
            case ("and", *_) | ("not", _):
                return self._chain(list(_conjuncts(part)))
            case ("without", left, right):
                kept, taken = self.moments(left), self._aside(right)
                return [one for one in kept if not any(_agree(one, other) and _shares(one, other) for other in taken)]
            case ("or", left, right):
                before = self.named.copy()
                first = self.moments(left)
                after, self.named = self.named, before
                second = self.moments(right)
                self.named = Counter({name: max(after[name], self.named[name]) for name in {*after, *self.named}})
                return [*first, *second]
            case ("then", left, right, within):
                firsts, seconds = self.moments(left), self.moments(right)
                return [
                    replace(_merged(one, other), start=one.start, end=other.end)
                    for one in firsts
                    for other in seconds
                    if _agree(one, other)
                    and self._stands("before", one, other)
                    and (within is None or round(other.start - one.end, 4) <= within)
                ]
            case (relation, left, right):
                firsts, seconds = self.moments(left), self.moments(right)
                return [
                    replace(_merged(one, other), start=one.start, end=one.end)
                    for one in firsts
                    for other in seconds
                    if _agree(one, other) and self._stands(relation, one, other)
                ]
        raise AssertionError(part)

    def _chain(self, parts: list[Part]) -> list[Found]:
        positive = [part for part in parts if part[0] != "not"] or [("video",)]
        found = self.moments(positive[0])
        for part in positive[1:]:
            others = self.moments(part)
            found = [
                replace(_merged(one, other), start=max(one.start, other.start), end=min(one.end, other.end))
                for one in found
                for other in others
                if _agree(one, other) and _shares(one, other)
            ]
        for part in parts:
            if part[0] == "not":
                taken = self._aside(part[1])
                found = [
                    replace(one, start=start, end=end)
                    for one in found
                    for start, end in _left(one, [other for other in taken if _agree(one, other)])
                ]
        return found

    def _counted(self, part: Part) -> list[Found]:
        """Looks at every stretch of time between two times at which anything changes."""
        kind = part[0]
        if kind == "presence":
            counted, other, column = part[1], None, ""
            rows = [(id, None, Found(first, last, score)) for id, _, first, last, score in self._seen(part[1])]
        else:
            column = "subject" if part[1].count else "object"
            counted, other = (part[1], part[3]) if part[1].count else (part[3], part[1])
            rest = "object" if part[1].count else "subject"
            rows = [(getattr(one, column), getattr(one, rest), _of(one, ())) for one in self._fitting(part)]
        rows = [row for row in rows if row[2].start < row[2].end]
        name = self._name(counted)
        other_name = None if other is None else self._name(other) if other.variable else None
        bound, number = counted.count
        answers = []
        for group in sorted({row[1] for row in rows}, key=str) if other_name else [None]:
            here = [row for row in rows if other_name is None or row[1] == group]
            times = sorted({time for _, _, one in here for time in (one.start, one.end)})
            good: list[tuple[float, float]] = []
            for start, end in pairwise(times):
                count = len({id for id, _, one in here if one.start <= start and end <= one.end})
                if count >= 1 and _BOUNDS[bound](count, number):
                    if good and good[-1][1] == start:
                        good[-1] = (good[-1][0], end)
                    else:
                        good.append((start, end))
            for start, end in good:
                proving = [(id, one) for id, _, one in here if one.start < end and start < one.end]
                answer = Found(start, end)
                for _, one in proving:
                    answer = _merged(answer, one)
                answer = replace(answer, words=((name[1], tuple(sorted({id for id, _ in proving}))),))
                answers.append(replace(answer, variables=((other_name[1], int(str(group))),)) if other_name else answer)
        return answers

    def _fitting(self, part: Part) -> Iterator[PlainRelation]:
        _, subject, predicates, thing = part
        for relation in self.video.relations:
            labels = [self.video.objects[id][0] for id in (relation.subject, relation.object)]
            if (
                (predicates is None or relation.predicate in predicates)
                and (subject.labels is None or labels[0] in subject.labels)
                and (thing.labels is None or labels[1] in thing.labels)
            ):
                yield relation

    def _seen(self, thing: PlainThing) -> Iterator[tuple[int, str, float, float, float]]:
        for id, (label, first, last, score) in self.video.objects.items():
            if thing.labels is None or label in thing.labels:
                yield id, label, first, last, score

    def _aside(self, part: Part) -> list[Found]:
        before = self.named.copy()
        found = self.moments(part)
        self.named = before
        return found

    def _name(self, thing: PlainThing) -> tuple[str, str]:
        if thing.variable is not None:
            return "variables", thing.variable
        self.named[thing.word] += 1
        number = self.named[thing.word]
        return "words", thing.word if number == 1 else f"{thing.word} {number}"

    def _stands(self, relation: str, one: Found, other: Found) -> bool:
        if relation in _INVERSES:
            return self._stands(_INVERSES[relation], other, one)
        near = self.video.interval + 0.001
        first = one.start < other.start and one.end < other.end
        return {
            "before": one.end <= other.start + near and first,
            "meets": abs(one.end - other.start) <= near and first,
            "overlaps": one.start < other.start < one.end < other.end,
            "starts": abs(one.start - other.start) <= near and one.end < other.end,
            "during": one.start + near >= other.start and one.end <= other.end + near,
            "finishes": abs(one.end - other.end) <= near and one.start > other.start,
            "equals": abs(one.start - other.start) <= near and abs(one.end - other.end) <= near,
        }[relation]


def _conjuncts(part: Part) -> Iterator[Part]:
    if part[0] == "and":
        yield from _conjuncts(part[1])
        yield from _conjuncts(part[2])
    else:
        yield part


def _of(relation: PlainRelation, names: Sequence[tuple[str, str]]) -> Any:
    """The moment of a relation; None where subject and object cannot both be the one variable."""
    if len(names) == 2 and names[0] == names[1] and relation.subject != relation.object:
        return None
    found = Found(relation.start, relation.end, relation.score, relation.relation_score, proof=(relation.key,))
    return _with_ids(found, list(zip(names, (relation.subject, relation.object), strict=False)))


def _with_ids(found: Found, ids: list[tuple[tuple[str, str], int]]) -> Found:
    variables = {name: id for (kind, name), id in ids if kind == "variables"}
    words = {name: id for (kind, name), id in ids if kind == "words"}
    return replace(found, variables=tuple(variables.items()), words=tuple(words.items()))


def _agree(one: Found, other: Found) -> bool:
    known = dict(one.variables)
    return all(known.get(name, id) == id for name, id in other.variables)


def _shares(one: Found, other: Found) -> bool:
    return max(one.start, other.start) < min(one.end, other.end)


def _merged(one: Found, other: Found) -> Found:
    """The objects, scores and proof of two moments together; the interval of the first."""
    scores = [score for score in (one.relation_score, other.relation_score) if score is not None]
    return replace(
        one,
        score=min(one.score, other.score),
        relation_score=min(scores, default=None),
        variables=tuple({**dict(one.variables), **dict(other.variables)}.items()),
        words=tuple({**dict(one.words), **dict(other.words)}.items()),
        proof=(*one.proof, *other.proof),
    )


def _left(one: Found, taken: list[Found]) -> list[tuple[float, float]]:
    """The longest intervals of a moment in which none of the others holds."""
    times = {one.start, one.end, *(time for other in taken for time in (other.start, other.end))}
    left: list[tuple[float, float]] = []
    for start, end in pairwise(sorted(time for time in times if one.start <= time <= one.end)):
        if any(other.start <= start and end <= other.end for other in taken):
            continue
        # A stretch goes on where only an empty moment lies between, which has no time.
        if left and left[-1][1] == start:
            left[-1] = (left[-1][0], end)
        else:
            left.append((start, end))
    return left

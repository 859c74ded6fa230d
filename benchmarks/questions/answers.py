"""Answers: how they are read from moments, and how right they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service.search.moments import Moment

Times = tuple[tuple[float, float], ...]
"""Intervals in seconds that do not overlap, in order."""
Answer = frozenset[str] | Times | float
ENOUGH = 0.5  # of the time of both together
_NEAR = 0.25
Reader = Callable[[Sequence[Moment]], Answer]


def subjects(moments: Sequence[Moment]) -> Answer:
    """Reads the labels of those who do it; none for nobody."""
    return frozenset(relation.subject_label for moment in moments for relation in moment.relations)


def predicates(moments: Sequence[Moment]) -> Answer:
    """Reads the predicates."""
    return frozenset(relation.predicate for moment in moments for relation in moment.relations)


def things(moments: Sequence[Moment]) -> frozenset[str]:
    """Reads the labels of what the query calls b."""
    found = ((moment.objects["b"], relation) for moment in moments for relation in moment.relations)
    return frozenset(relation.object_label for b, relation in found if relation.object == b)


def number_of_things(moments: Sequence[Moment]) -> Answer:
    """Reads how many things of different labels the query calls b; a puppet video has no two things of one label."""
    return float(len(things(moments)))


def times(moments: Sequence[Moment]) -> Times:
    """Reads the time in which any moment holds."""
    return united([(moment.start, moment.end) for moment in moments])


def seconds(moments: Sequence[Moment]) -> Answer:
    """Reads how long any moment holds."""
    return length(times(moments))


def is_so(moments: Sequence[Moment]) -> Answer:
    """Reads yes or no."""
    return frozenset({"yes" if moments else "no"})


def united(intervals: Sequence[tuple[float, float]]) -> Times:
    """Joins intervals that overlap or touch."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return tuple(joined)


def length(intervals: Times) -> float:
    """Returns the seconds of intervals that do not overlap."""
    return float(sum(end - start for start, end in intervals))


def share_in_common(one: Times, other: Times) -> float:
    """Returns the time in common as a share of the time of both together; 1 where both are empty."""
    both = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in one for b in other)
    together = length(one) + length(other) - both
    return both / together if together else 1.0


def is_right(given: Answer, true: Answer) -> bool:
    """Returns whether an answer is right: all words and no other, a number within a quarter, half of the times."""
    match given, true:
        case frozenset(), frozenset():
            return given == true
        case float(), float():
            return abs(given - true) <= _NEAR * max(given, true)
        case tuple(), tuple():
            return share_in_common(given, true) >= ENOUGH
    raise TypeError(f"{given!r} and {true!r} are answers of different kinds")

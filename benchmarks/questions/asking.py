"""Makes questions about a video of Puppet Genome from its annotation."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from benchmarks.questions import answers
from benchmarks.questions.answers import Answer, Reader, Times, length, united
from models.graph.vocabulary import ACTION_GENOME
from training.data.puppets.video import Truth

INTERVAL: Final = 0.5  # seconds between two samples
PERSON: Final = 1  # id; puppet videos have one person
_LEAST_SECONDS: Final = 1.0  # of what is asked for; two samples a second hardly show what is shorter
_LASTING: Final = f"for {_LEAST_SECONDS:g}s"
_WITHIN: Final = 3.0  # seconds, of the kind "next"
_TOLERANCE: Final = INTERVAL + 0.001
_GROUPS: Final = {group.name: group for group in ACTION_GENOME.groups}
_CONTACTS: Final = set(_GROUPS["contacting"].predicates) - set(_GROUPS["contacting"].says_little)
_PLACES: Final = set(_GROUPS["spatial"].predicates)


@dataclass(frozen=True)
class Fact:
    """Something that holds: a predicate between the person and a thing, from `start` to `end` in seconds.

    thing: id of the thing; `label` is its class.
    """

    predicate: str
    thing: int
    label: str
    start: float
    end: float

    def is_before(self, other: Fact) -> bool:
        """Returns whether this is over when the other begins, give or take a sample."""
        return self.end <= other.start + _TOLERANCE and self.start < other.start and self.end < other.end


@dataclass(frozen=True)
class Question:
    """A question about one video.

    query: as `vsg find` takes it.
    timeless: the query for a graph that does not know when: what is before or after is there, no more.
    read: reads the answer from the moments.
    answer, moments: the true ones.
    """

    kind: str
    text: str
    query: str
    timeless: str
    read: Reader
    answer: Answer
    moments: Times


def facts_of(truth: Sequence[Truth]) -> list[Fact]:
    """Returns what holds in a video, from annotations that are `INTERVAL` seconds apart."""
    held: dict[tuple[str, int, str], list[int]] = {}
    for index, now in enumerate(truth):
        for thing in now.things:
            if thing.visible:
                for predicate in sorted({*thing.attention, *thing.spatial, *thing.contacting}):
                    held.setdefault((predicate, PERSON + 1 + thing.identity, thing.name), []).append(index)
    return [
        Fact(*what, INTERVAL * run[0], INTERVAL * (run[-1] + 1))
        for what, indices in held.items()
        for run in _runs(indices)
    ]


def questions_of(facts: Sequence[Fact], seconds: float, seed: int) -> list[Question]:
    """Returns a question of every kind, or none where nothing that the person does changes.

    seconds: length of the video.
    """
    facts = [fact for fact in facts if fact.end - fact.start >= _LEAST_SECONDS]
    contacts = [fact for fact in facts if fact.predicate in _CONTACTS]
    if all(fact.end - fact.start >= seconds for fact in contacts):
        return []
    draw = random.Random(seed)
    return [ask(facts, contacts, seconds, draw) for ask in _KINDS]


def _who(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    predicate, label = _maybe(contacts, draw)
    found = _fitting(contacts, predicate, label)
    query = f'person {predicate} "{label}" {_LASTING}'
    answer = frozenset({"person"} if found else ())
    return Question("who", f"Who is {predicate} the {label}?", query, query, answers.subjects, answer, _times(found))


def _what(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    predicate = draw.choice(contacts).predicate
    found = [fact for fact in contacts if fact.predicate == predicate]
    query = f"person {predicate} anything b {_LASTING}"
    text = f"What is the person {predicate}?"
    return Question("what", text, query, query, answers.things, _labels(found), _times(found))


def _which(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    label = draw.choice(contacts).label
    found = [fact for fact in contacts if fact.label == label]
    query, text = f'person contacting "{label}" {_LASTING}', f"What does the person do with the {label}?"
    return Question("which", text, query, query, answers.predicates, _predicates(found), _times(found))


def _where(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    label = draw.choice([fact for fact in facts if fact.predicate in _PLACES]).label
    found = [fact for fact in facts if fact.predicate in _PLACES and fact.label == label]
    query, text = f'"{label}" spatial person {_LASTING}', f"Where is the {label}, seen from the person?"
    return Question("where", text, query, query, answers.predicates, _predicates(found), _times(found))


def _when(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    predicate, label = _passing(contacts, seconds, draw)
    found = _times(_fitting(contacts, predicate, label))
    query, text = f'person {predicate} "{label}" {_LASTING}', f"When is the person {predicate} the {label}?"
    return Question("when", text, query, query, answers.times, found, found)


def _before(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    predicate, label = _passing(contacts, seconds, draw)
    marks = _fitting(contacts, predicate, label)
    found = [fact for fact in contacts if any(fact.is_before(mark) for mark in marks)]
    query = f'person a contacting anything b {_LASTING} before a {predicate} "{label}" {_LASTING}'
    text = f"What does the person touch before {predicate} the {label}?"
    return Question("before", text, query, _timeless(query), answers.things, _labels(found), _times(found))


def _after(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    predicate, label = _passing(contacts, seconds, draw)
    marks = _fitting(contacts, predicate, label)
    found = [fact for fact in contacts if any(mark.is_before(fact) for mark in marks)]
    query = f'person a contacting anything b {_LASTING} after a {predicate} "{label}" {_LASTING}'
    text = f"What does the person touch after {predicate} the {label}?"
    return Question("after", text, query, _timeless(query), answers.things, _labels(found), _times(found))


def _at_the_same_time(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    predicate, label = _passing(contacts, seconds, draw)
    marks = _fitting(contacts, predicate, label)
    looks = [fact for fact in facts if fact.predicate == "looking_at"]
    pairs = [(mark, look) for mark in marks for look in looks if max(mark.start, look.start) < min(mark.end, look.end)]
    moments = united([(max(mark.start, look.start), min(mark.end, look.end)) for mark, look in pairs])
    query = f'person a {predicate} "{label}" {_LASTING} and a looking_at anything b {_LASTING}'
    text = f"What is the person looking at while {predicate} the {label}?"
    answer = _labels(look for _, look in pairs)
    return Question("at the same time", text, query, query, answers.things, answer, moments)


def _how_long(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    predicate, label = _passing(contacts, seconds, draw)
    found = _times(_fitting(contacts, predicate, label))
    query, text = f'person {predicate} "{label}" {_LASTING}', f"How long is the person {predicate} the {label}?"
    return Question("how long", text, query, query, answers.seconds, length(found), found)


def _how_many(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    query, text = f"person contacting anything b {_LASTING}", "How many things does the person touch?"
    answer = float(len({fact.thing for fact in contacts}))
    return Question("how many", text, query, query, answers.number_of_things, answer, _times(contacts))


def _never(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    predicate, label = _maybe(contacts, draw)
    happens = bool(_fitting(contacts, predicate, label))
    query, text = (
        f'video without person {predicate} "{label}" {_LASTING}',
        f"Is the person never {predicate} the {label}?",
    )
    answer = frozenset({"no" if happens else "yes"})
    return Question("never", text, query, query, answers.is_so, answer, () if happens else ((0.0, seconds),))


def _next(facts: Sequence[Fact], contacts: Sequence[Fact], seconds: float, draw: random.Random) -> Question:
    predicate, label = _passing(contacts, seconds, draw)
    marks = _fitting(contacts, predicate, label)
    pairs = [
        (mark, fact) for mark in marks for fact in contacts if mark.is_before(fact) and fact.start - mark.end <= _WITHIN
    ]
    query = f'person a {predicate} "{label}" {_LASTING} then within {_WITHIN:g}s a contacting anything b {_LASTING}'
    text = f"What does the person touch within {_WITHIN:g} seconds after {predicate} the {label}?"
    moments = united([(mark.start, fact.end) for mark, fact in pairs])
    answer = _labels(fact for _, fact in pairs)
    return Question("next", text, query, _timeless(query), answers.things, answer, moments)


_KINDS: Final[Sequence[Callable[[Sequence[Fact], Sequence[Fact], float, random.Random], Question]]] = (
    _who, _what, _which, _where, _when, _before, _after, _at_the_same_time, _how_long, _how_many, _never, _next,
)  # fmt: skip


def _surely(contacts: Sequence[Fact], draw: random.Random) -> tuple[str, str]:
    """Draws a predicate and a label of which something holds."""
    fact = draw.choice(contacts)
    return fact.predicate, fact.label


def _passing(contacts: Sequence[Fact], seconds: float, draw: random.Random) -> tuple[str, str]:
    """Draws a predicate and a label of which something holds for a time, not throughout."""
    return _surely([fact for fact in contacts if fact.end - fact.start < seconds], draw)


def _maybe(contacts: Sequence[Fact], draw: random.Random) -> tuple[str, str]:
    """Draws a predicate and a label of the video; in half of the cases nothing of them holds."""
    predicate, label = _surely(contacts, draw)
    others = sorted(_CONTACTS - {fact.predicate for fact in contacts if fact.label == label})
    return (draw.choice(others), label) if draw.random() < 0.5 else (predicate, label)


def _fitting(facts: Sequence[Fact], predicate: str, label: str) -> list[Fact]:
    return [fact for fact in facts if (fact.predicate, fact.label) == (predicate, label)]


def _labels(facts: Iterable[Fact]) -> frozenset[str]:
    return frozenset(fact.label for fact in facts)


def _predicates(facts: Iterable[Fact]) -> frozenset[str]:
    return frozenset(fact.predicate for fact in facts)


def _times(facts: Iterable[Fact]) -> Times:
    return united([(fact.start, fact.end) for fact in facts])


def _timeless(query: str) -> str:
    for order in (" before ", " after ", f" then within {_WITHIN:g}s "):
        query = query.replace(order, " and ")
    return query


def _runs(indices: Sequence[int]) -> Iterator[list[int]]:
    """Yields runs of consecutive numbers."""
    for _, group in groupby(enumerate(indices), lambda pair: pair[1] - pair[0]):
        yield [index for _, index in group]

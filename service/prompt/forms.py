"""The forms that a story can be told in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, Protocol

from service.prompt.appearances import Entity
from service.prompt.events import Event
from service.prompt.tokens import count_tokens
from service.prompt.words import Name, phrase_of, time_of

FormName = Literal["by_time", "by_relevance", "by_person"]
DEFAULT_FORM: Final[FormName] = "by_person"
"""The one that states most true events within 200 tokens; docs/prompt.md has the figures."""


class Form(Protocol):
    """A story that grows by one event after the other."""

    heading: str

    def add(self, event: Event, room: int) -> int:
        """Tells an event if that takes at most `room` tokens; returns how many it took, 0 when it was left out."""

    def lines(self) -> list[str]:
        """The story so far."""


class ByTime:
    """A line for every interval, with all that holds over it; by when it begins."""

    heading = "What happens, in order:"

    def __init__(self, names: Mapping[Entity, Name], duration: float | None) -> None:
        self._names = names
        self._duration = duration
        self._times: dict[str, tuple[float, float]] = {}
        self._told: dict[str, dict[Entity, dict[Entity, list[str]]]] = {}

    def add(self, event: Event, room: int) -> int:
        when = time_of(event.start, event.end, self._duration)
        before = self._told.get(when, {})
        things = before.get(event.person, {})
        predicates = [*things.get(event.thing, []), event.predicate]
        after = {**before, event.person: {**things, event.thing: predicates}}
        cost = count_tokens(f"\n{self._line(when, after)}")
        if before:
            cost -= count_tokens(f"\n{self._line(when, before)}")
        if cost > room:
            return 0
        self._told[when] = after
        self._times.setdefault(when, (event.start, -event.end))
        return cost

    def lines(self) -> list[str]:
        order = sorted(self._told, key=lambda when: self._times[when])
        return [self._line(when, self._told[when]) for when in order]

    def _line(self, when: str, people: Mapping[Entity, Mapping[Entity, list[str]]]) -> str:
        clauses = [
            f"{self._names[person].text} "
            + ", ".join(phrase_of(self._names[thing], predicates) for thing, predicates in things.items())
            for person, things in people.items()
        ]
        return f"{when[0].upper()}{when[1:]}: {'; '.join(clauses)}."


class ByRelevance(ByTime):
    """The same lines, the one with the most telling event first."""

    heading = "What happens, most relevant first:"

    def lines(self) -> list[str]:
        return [self._line(when, people) for when, people in self._told.items()]


class ByPerson:
    """A line for every person: what they do with which thing, and when; by when it begins."""

    heading = "Who does what:"

    def __init__(self, names: Mapping[Entity, Name], duration: float | None) -> None:
        self._names = names
        self._duration = duration
        self._told: dict[Entity, dict[Entity, list[Event]]] = {}

    def add(self, event: Event, room: int) -> int:
        things = self._told.get(event.person, {})
        before = things.get(event.thing, [])
        cost = count_tokens(self._clause([*before, event])) - count_tokens(self._clause(before))
        if not before:
            # After a comma or, the first of a person, between the person's name and a full stop.
            cost += count_tokens(", " if things else f"\n{self._names[event.person].text}.")
        if cost > room:
            return 0
        self._told.setdefault(event.person, {}).setdefault(event.thing, []).append(event)
        return cost

    def lines(self) -> list[str]:
        return [self._line(person, things) for person, things in self._told.items()]

    def _line(self, person: Entity, things: Mapping[Entity, list[Event]]) -> str:
        name = self._names[person].text
        in_order = sorted(things.values(), key=lambda events: min(event.start for event in events))
        return f"{name[0].upper()}{name[1:]} {', '.join(map(self._clause, in_order))}."

    def _clause(self, events: Iterable[Event]) -> str:
        """ "holds the cup (until 7 s, from 9 s on), looks at it (until 4 s)"."""
        times: dict[str, list[str]] = {}
        in_order = sorted(events, key=lambda event: event.start)
        for event in in_order:
            times.setdefault(event.predicate, []).append(time_of(event.start, event.end, self._duration))
        together: dict[str, list[str]] = {}
        for predicate, spans in times.items():
            together.setdefault(", ".join(dict.fromkeys(spans)), []).append(predicate)
        return ", ".join(
            f"{phrase_of(self._names[in_order[0].thing], predicates, is_known=position > 0)} ({spans})"
            for position, (spans, predicates) in enumerate(together.items())
        )


FORMS: Final[Mapping[FormName, type[ByTime] | type[ByPerson]]] = {
    "by_time": ByTime,
    "by_relevance": ByRelevance,
    "by_person": ByPerson,
}

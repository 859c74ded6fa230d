"""A scene graph in words, in one of three forms, within a budget of tokens."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from models.graph.phrases import listed
from models.graph.scene_graph import Relation
from models.graph.vocabulary import Vocabulary
from service.prompt.moments import Appearances, Entity, Event, entities_of, events_of, spans_of
from service.prompt.words import Name, amount_of, clause_of, length_of, names_of, presence_of, time_of

FormName = Literal["by_time", "by_relevance", "by_person"]
DEFAULT_FORM: Final[FormName] = "by_person"
"""The one that states most true events within 200 tokens; docs/prompt.md has the figures."""
MIN_TOKENS = 60
_ROOMY = 150  # tokens, from where on there is room to say where the sentences come from

_PIECE = re.compile(r"[A-Za-z]+| {2,}|[^A-Za-z ]")
_LETTERS_OF_TOKEN = 4


@dataclass(frozen=True)
class Telling:
    """A prompt, and the events that it states."""

    text: str
    events: tuple[Event, ...]


def build_prompt(
    appearances: Appearances,
    relations: Sequence[Relation],
    vocabulary: Vocabulary,
    *,
    duration: float | None,
    max_tokens: int = 400,
    form: FormName = DEFAULT_FORM,
) -> str:
    """Says in sentences what happens in the video and when, for a language model to caption; see `tell`."""
    return tell(appearances, relations, vocabulary, duration=duration, max_tokens=max_tokens, form=form).text


def tell(
    appearances: Appearances,
    relations: Sequence[Relation],
    vocabulary: Vocabulary,
    *,
    duration: float | None,
    max_tokens: int = 400,
    form: FormName = DEFAULT_FORM,
) -> Telling:
    """The prompt, and the events that it states.

    The most telling events are told first, until `max_tokens` (by `count_tokens`) are used up; what room is left names
    the subjects and things that no event is about, subjects with their times. Nothing is ever cut in the middle. Two
    things of one label are told apart ("the first chair") when they are there at the same time. `duration` is in
    seconds; None where unknown.

    Raises ValueError when `max_tokens` is under 60, in which not even the request for a caption and one event fit.
    """
    if max_tokens < MIN_TOKENS:
        raise ValueError(f"max_tokens must be at least {MIN_TOKENS}, not {max_tokens}")
    video = "video" if duration is None else f"{length_of(duration)} video"
    subjects = [vocabulary.noun(label).plural for label in vocabulary.subjects]
    if not appearances.labels:
        none = f"No {listed([*subjects, 'relations'], 'or')} were found in this {video}"
        return Telling(f"{none}, so there is nothing to write a caption from.", ())

    entities = entities_of(appearances)
    events = events_of(relations, entities, vocabulary)
    story = FORMS[form](names_of(entities.values(), vocabulary), vocabulary, duration)
    request, heading = f"Write one short caption for this {video}.", "What happens:"
    if max_tokens >= _ROOMY:
        heading = story.heading
        request = (
            f"The following was read from a {video} by a scene-graph model. Write one short caption for the video."
        )
    if not events:
        heading = f"No relations between {listed([*subjects, 'things'])} were found."
    room = max_tokens - count_tokens(f"{request}\n{heading}")

    told = []
    for event in events:
        if cost := story.add(event, room):
            room -= cost
            told.append(event)
    rest = _rest(told, appearances, entities, vocabulary, duration, room - count_tokens("\n"))
    text = "\n".join([request, heading, *story.lines(), *rest])
    return Telling(text, tuple(told))


def _rest(
    told: Sequence[Event],
    appearances: Appearances,
    entities: Mapping[int, Entity],
    vocabulary: Vocabulary,
    duration: float | None,
    max_tokens: int,
) -> list[str]:
    """A line with as many as fit of those that no event names, subjects and the best seen first; or no line.

    Subjects are told with their times where these fit. Of a label of things that an event names, no others are told.
    """
    named = {entity for event in told for entity in (event.subject, event.thing)}
    named_labels = {entity.label for entity in named}
    others: dict[str, list[Entity]] = {}
    for entity in dict.fromkeys(entities.values()):
        if entity in named:
            continue
        if entity.label in vocabulary.subjects or entity.label not in named_labels:
            others.setdefault(entity.label, []).append(entity)
    spans = spans_of(appearances, entities)
    line, amounts = "", list[str]()
    for label in sorted(others, key=lambda label: (label not in vocabulary.subjects, -appearances.scores[label])):
        amount = amount_of(label, len(others[label]), vocabulary, more=label in named_labels)
        times = presence_of({entity: spans[entity] for entity in others[label]}, duration)
        choices = [f"{amount} ({times})", amount] if label in vocabulary.subjects else [amount]
        lines = [f"{'Also there' if told else 'There are'}: {', '.join([*amounts, choice])}." for choice in choices]
        fitting = next((place for place, longer in enumerate(lines) if count_tokens(longer) <= max_tokens), None)
        if fitting is None:
            break
        amounts.append(choices[fitting])
        line = lines[fitting]
    return [line] if line else []


class Form(ABC):
    """A story that grows by one event after the other."""

    heading: str

    def __init__(self, names: Mapping[Entity, Name], vocabulary: Vocabulary, duration: float | None) -> None:
        self._names = names
        self._vocabulary = vocabulary
        self._duration = duration

    @abstractmethod
    def add(self, event: Event, room: int) -> int:
        """Tells an event if that takes at most `room` tokens; returns how many it took, 0 when it was left out."""

    @abstractmethod
    def lines(self) -> list[str]:
        """The story so far."""


class ByTime(Form):
    """A line for every interval, with all that holds over it, in order of time."""

    heading = "What happens, in order:"

    def __init__(self, names: Mapping[Entity, Name], vocabulary: Vocabulary, duration: float | None) -> None:
        super().__init__(names, vocabulary, duration)
        self._times: dict[str, tuple[float, float]] = {}
        self._told: dict[str, dict[Entity, dict[Entity, list[str]]]] = {}

    def add(self, event: Event, room: int) -> int:
        when = time_of(event.start, event.end, self._duration)
        before = self._told.get(when, {})
        things = before.get(event.subject, {})
        predicates = [*things.get(event.thing, []), event.predicate]
        after = {**before, event.subject: {**things, event.thing: predicates}}
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

    def _line(self, when: str, subjects: Mapping[Entity, Mapping[Entity, list[str]]]) -> str:
        clauses = [
            f"{self._names[subject].text} "
            + ", ".join(
                clause_of(self._names[thing], predicates, self._vocabulary) for thing, predicates in things.items()
            )
            for subject, things in subjects.items()
        ]
        return f"{_capitalised(when)}: {'; '.join(clauses)}."


class ByRelevance(ByTime):
    """The same lines, the one with the most telling event first."""

    heading = "What happens, most relevant first:"

    def lines(self) -> list[str]:
        return [self._line(when, subjects) for when, subjects in self._told.items()]


class ByPerson(Form):
    """A line for every subject, with all events of it; things in order of time."""

    heading = "Who does what:"

    def __init__(self, names: Mapping[Entity, Name], vocabulary: Vocabulary, duration: float | None) -> None:
        super().__init__(names, vocabulary, duration)
        self._told: dict[Entity, dict[Entity, list[Event]]] = {}

    def add(self, event: Event, room: int) -> int:
        things = self._told.get(event.subject, {})
        before = things.get(event.thing, [])
        cost = count_tokens(self._clauses([*before, event])) - count_tokens(self._clauses(before))
        if not before:
            # After a comma or, the first of a subject, between its name and a full stop.
            cost += count_tokens(", " if things else f"\n{self._names[event.subject].text}.")
        if cost > room:
            return 0
        self._told.setdefault(event.subject, {}).setdefault(event.thing, []).append(event)
        return cost

    def lines(self) -> list[str]:
        return [self._line(subject, things) for subject, things in self._told.items()]

    def _line(self, subject: Entity, things: Mapping[Entity, list[Event]]) -> str:
        in_order = sorted(things.values(), key=lambda events: min(event.start for event in events))
        return f"{_capitalised(self._names[subject].text)} {', '.join(map(self._clauses, in_order))}."

    def _clauses(self, events: Iterable[Event]) -> str:
        """ "holds the cup (until 7 s, from 9 s on), looks at it (until 4 s)"."""
        times: dict[str, list[str]] = {}
        in_order = sorted(events, key=lambda event: event.start)
        for event in in_order:
            times.setdefault(event.predicate, []).append(time_of(event.start, event.end, self._duration))
        together: dict[str, list[str]] = {}
        for predicate, spans in times.items():
            together.setdefault(", ".join(dict.fromkeys(spans)), []).append(predicate)
        clauses = []
        for position, (when, predicates) in enumerate(together.items()):
            thing = self._names[in_order[0].thing]
            clauses.append(f"{clause_of(thing, predicates, self._vocabulary, is_known=position > 0)} ({when})")
        return ", ".join(clauses)


FORMS: Final[Mapping[FormName, type[Form]]] = {
    "by_time": ByTime,
    "by_relevance": ByRelevance,
    "by_person": ByPerson,
}


def count_tokens(text: str) -> int:
    """An estimate from above of how many tokens a common BPE tokenizer makes of English `text`, without a vocabulary.

    A word counts one token per four letters begun, where tokenizers take most words whole; a digit, a punctuation mark,
    a line break and every space after a first count one each, any other character as many as it has bytes in UTF-8.
    Single rare words may need more, sentences do not: prompts come out at about 1.4 times what CLIP's tokenizer makes.
    """
    count = 0
    for piece in _PIECE.findall(text):
        if piece.isascii() and piece.isalpha():
            count += -(-len(piece) // _LETTERS_OF_TOKEN)
        elif piece.isspace() and len(piece) > 1:
            count += len(piece) - 1
        else:
            count += len(piece.encode("utf-8", "surrogatepass"))
    return count


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"

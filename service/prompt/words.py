"""Names of things, relations and times in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.graph.phrases import listed, with_article
from models.graph.vocabulary import Vocabulary
from service.prompt.moments import Entity

_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

_LONG = 120.0  # seconds, from which on times are told in minutes and seconds
_VERY_LONG = 3600.0  # from which on they are told in minutes
_BRIEF = 5.0  # seconds, up to which they are told to a tenth
_INSTANT = 0.05  # seconds, below which a tenth says nothing
_THROUGHOUT = "throughout"
_MOST_SPANS = 3  # of one entity that are told one by one


@dataclass(frozen=True)
class Name:
    """The name of an entity: "the cup or bottle", "the second chair"."""

    text: str
    plural: bool = False

    @property
    def pronoun(self) -> str:
        """The word for it where it was just named."""
        return "them" if self.plural else "it"


def count_labels(entities: Iterable[Entity]) -> dict[str, int]:
    """Counts the entities of each label."""
    counts: dict[str, int] = {}
    for entity in entities:
        counts[entity.label] = max(entity.number, counts.get(entity.label, 0))
    return counts


def names_of(entities: Iterable[Entity], vocabulary: Vocabulary) -> dict[Entity, Name]:
    """The name of each; those of a label with several are numbered."""
    known = set(entities)
    counts = count_labels(known)
    return {entity: _name(entity, counts[entity.label], vocabulary) for entity in known}


def _name(entity: Entity, count: int, vocabulary: Vocabulary) -> Name:
    noun = vocabulary.noun(entity.label)
    if count == 1:
        return Name(f"the {noun.singular}", plural=noun.is_plural)
    counted = noun.counted or noun.singular
    if entity.number > len(_ORDINALS):
        return Name(f"{counted} number {entity.number}")
    return Name(f"the {_ORDINALS[entity.number - 1]} {counted}")


def amount_of(label: str, count: int, vocabulary: Vocabulary, *, more: bool = False) -> str:
    """ "a chair", "two chairs", "some food".

    more: whether others were told before: "another chair", "two more chairs".
    """
    noun = vocabulary.noun(label)
    if count == 1 and more:
        return f"another {noun.counted or noun.singular}"
    if count == 1:
        return f"some {noun.singular}" if noun.counted else with_article(noun.singular)
    number = _NUMBERS[count - 2] if count - 2 < len(_NUMBERS) else str(count)
    return f"{number} more {noun.plural}" if more else f"{number} {noun.plural}"


def presence_of(spans: Mapping[Entity, Sequence[tuple[float, float]]], duration: float | None) -> str:
    """The times at which entities of one label are there: "throughout", "the first until 4 s, the second 3 to 5 s".

    spans: from and to in seconds, in order. Of more than a few, only the whole time is told.
    """
    times = {entity: _spans_in_words(each, duration) for entity, each in spans.items()}
    if len(set(times.values())) == 1:
        return next(iter(times.values()))
    return ", ".join(f"{_ordinal(entity.number)} {when}" for entity, when in times.items())


def _spans_in_words(spans: Sequence[tuple[float, float]], duration: float | None) -> str:
    if duration is not None:
        spans = [(start, max(start, min(end, duration))) for start, end in spans]
    if len(spans) > _MOST_SPANS:
        whole = time_of(spans[0][0], spans[-1][1], duration)
        return "now and then" if whole == _THROUGHOUT else f"now and then, {whole}"
    return ", ".join(dict.fromkeys(time_of(start, end, duration) for start, end in spans))


def _ordinal(number: int) -> str:
    return f"the {_ORDINALS[number - 1]}" if number <= len(_ORDINALS) else f"number {number}"


def clause_of(thing: Name, predicates: Sequence[str], vocabulary: Vocabulary, *, is_known: bool = False) -> str:
    """A clause about a subject and a thing: "holds and looks at the cup and has it behind them".

    First comes what the subject does in words around the thing, then in words before it, then where the thing is.

    is_known: whether the thing was named just before.
    """
    doing: list[str] = []
    verbs: list[str] = []
    placing: dict[tuple[str, str], list[str]] = {}  # "has", "them" to "in front of", "above"
    for predicate in predicates:
        group = vocabulary.group_of(predicate)
        if any(other in predicates for other in group.implied_by.get(predicate, ())):
            continue
        before, thing_inside, after = (words.strip() for words in group.phrase(predicate).partition("{}"))
        place, _, last = after.rpartition(" ")
        if not (thing_inside and after):
            verbs.append(before)
        elif group.runs_from_object and place:
            placing.setdefault((before, last), []).append(place)
        else:
            doing.append(f"{before} {{}} {after}")
    parts = doing + ([f"{listed(verbs)} {{}}"] if verbs else [])
    parts += [f"{before} {{}} {listed(places)} {last}" for (before, last), places in placing.items()]
    first = thing.pronoun if is_known else thing.text
    return " and ".join(part.replace("{}", thing.pronoun if position else first) for position, part in enumerate(parts))


def time_of(start: float, end: float, duration: float | None) -> str:
    """The time of an event, as a language model reads it best: "throughout", "until 4 s", "1:05 to 1:40".

    Times are seconds; `duration`, of the video, is None where unknown.
    """
    first, last = _moment(start, duration), _moment(end, duration)
    unit = "" if ":" in last else _unit(duration)
    lasts = duration is not None and last == _moment(duration, duration)
    begins = first == _moment(0.0, duration)
    if begins and lasts:
        return _THROUGHOUT
    if first == last:
        return f"at {last}{unit}"
    if begins:
        return f"until {last}{unit}"
    if lasts:
        return f"from {first}{unit} on"
    return f"{first} to {last}{unit}"


def length_of(duration: float) -> str:
    """Returns the length of a video in words: "10-second", "5-minute", "0.04-second" for a single frame."""
    if duration < _INSTANT:
        return f"{duration:.1g}-second"
    if duration < _LONG:
        return f"{_moment(duration, duration)}-second"
    return f"{_whole(duration / 60)}-minute"


def _moment(seconds: float, duration: float | None) -> str:
    if duration is not None and duration <= _BRIEF:
        return f"{seconds:.1f}".removesuffix(".0")
    if duration is not None and duration < _LONG:
        return str(_whole(seconds))
    if duration is not None and duration >= _VERY_LONG:
        return str(_whole(seconds / 60))
    minutes, rest = divmod(_whole(seconds), 60)
    return f"{minutes}:{rest:02}"


def _unit(duration: float | None) -> str:
    return " min" if duration is not None and duration >= _VERY_LONG else " s"


def _whole(number: float) -> int:
    return int(number + 0.5)  # `round` takes 2.5 to 2

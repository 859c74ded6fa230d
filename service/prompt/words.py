"""What things, relations and times are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.graph.vocabulary import PERSON
from service.prompt.appearances import Entity

_VERBS = {
    "looking_at": "looks at",
    "not_looking_at": "does not look at",
    "unsure": "may be looking at",
    "carrying": "carries",
    "covered_by": "is covered by",
    "drinking_from": "drinks from",
    "eating": "eats",
    "holding": "holds",
    "leaning_on": "leans on",
    "lying_on": "lies on",
    "not_contacting": "does not touch",
    "other_relationship": "interacts with",
    "sitting_on": "sits on",
    "standing_on": "stands on",
    "touching": "touches",
    "twisting": "twists",
    "wearing": "wears",
    "wiping": "wipes",
    "writing_on": "writes on",
    # Action Genome says "in" of the object, but means beds, doorways and clothes that the person is in.
    "in": "is in",
}
_PLACES = {
    "above": "above",
    "beneath": "beneath",
    "in_front_of": "in front of",
    "behind": "behind",
    "on_the_side_of": "beside",
}

_NOUNS = {
    "closet/cabinet": "closet",
    "cup/glass/bottle": "cup or bottle",
    "paper/notebook": "notebook",
    "phone/camera": "phone",
    "sofa/couch": "sofa",
}
_COUNTED = {  # how one of several is called, where the plain noun cannot be counted
    "clothes": "set of clothes",
    "food": "item of food",
    "groceries": "set of groceries",
    "medicine": "item of medicine",
}
_PLURAL_NOUNS = {"clothes", "groceries"}
_PLURALS = {
    PERSON: "people",
    "box": "boxes",
    "cup/glass/bottle": "cups or bottles",
    "dish": "dishes",
    "sandwich": "sandwiches",
    "shelf": "shelves",
    "clothes": "sets of clothes",
    "food": "items of food",
    "groceries": "sets of groceries",
    "medicine": "items of medicine",
}
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

_BACK = "have_it_on_the_back"
_LONG = 120.0  # seconds, from which on times are told in minutes and seconds
_VERY_LONG = 3600.0  # from which on they are told in minutes
_BRIEF = 5.0  # seconds, up to which they are told to a tenth


@dataclass(frozen=True)
class Name:
    """How an entity is called: "the cup or bottle", "the second chair"."""

    text: str
    plural: bool = False

    @property
    def pronoun(self) -> str:
        """What it is called when it was just named."""
        return "them" if self.plural else "it"


def count_labels(entities: Iterable[Entity]) -> dict[str, int]:
    """How many there are of each label."""
    counts: dict[str, int] = {}
    for entity in entities:
        counts[entity.label] = max(entity.number, counts.get(entity.label, 0))
    return counts


def names_of(entities: Iterable[Entity]) -> dict[Entity, Name]:
    """What each is called; those of a label with several are numbered."""
    known = set(entities)
    counts = count_labels(known)
    return {entity: _name(entity, counts[entity.label]) for entity in known}


def _name(entity: Entity, count: int) -> Name:
    noun = _NOUNS.get(entity.label, entity.label)
    if count == 1:
        return Name(f"the {noun}", plural=entity.label in _PLURAL_NOUNS)
    counted = _COUNTED.get(entity.label, noun)
    if entity.number > len(_ORDINALS):
        return Name(f"{counted} number {entity.number}")
    return Name(f"the {_ORDINALS[entity.number - 1]} {counted}")


def amount_of(label: str, count: int) -> str:
    """ "a chair", "two chairs", "some food"."""
    noun = _NOUNS.get(label, label)
    if count == 1:
        return f"some {noun}" if label in _COUNTED else f"a {noun}"
    number = _NUMBERS[count - 2] if count - 2 < len(_NUMBERS) else str(count)
    return f"{number} {_PLURALS.get(label, noun + 's')}"


def phrase_of(thing: Name, predicates: Sequence[str], *, is_known: bool = False) -> str:
    """What a person does with a thing: "holds and looks at the cup and has it behind them".

    is_known  the thing was named just before
    """
    # One is in what one wears.
    implied = {"in"} if "wearing" in predicates else set[str]()
    verbs = [
        _VERBS[predicate] for predicate in predicates if predicate in _VERBS and predicate not in {_BACK, *implied}
    ]
    places = [_PLACES[predicate] for predicate in predicates if predicate in _PLACES]
    parts = ["has {} on their back"] if _BACK in predicates else []
    if verbs:
        parts.append(f"{listed(verbs)} {{}}")
    if places:
        parts.append(f"has {{}} {listed(places)} them")
    first = thing.pronoun if is_known else thing.text
    return " and ".join(part.format(thing.pronoun if position else first) for position, part in enumerate(parts))


def time_of(start: float, end: float, duration: float | None) -> str:
    """When something happens, as a language model reads it best: "throughout", "until 4 s", "1:05 to 1:40".

    Times are seconds; `duration`, of the video, is None where unknown.
    """
    first, last = _moment(start, duration), _moment(end, duration)
    unit = "" if ":" in last else _unit(duration)
    lasts = duration is not None and last == _moment(duration, duration)
    begins = first == _moment(0.0, duration)
    if begins and lasts:
        return "throughout"
    if first == last:
        return f"at {last}{unit}"
    if begins:
        return f"until {last}{unit}"
    if lasts:
        return f"from {first}{unit} on"
    return f"{first} to {last}{unit}"


def length_of(duration: float) -> str:
    """How long a video is: "10-second", "5-minute"."""
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


def listed(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

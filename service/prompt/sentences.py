"""A scene graph in sentences, within a budget of tokens."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from models.scene_graph import Frame, Relation
from models.vocabulary import GROUP_OF_PREDICATE, PERSON, PredicateGroup, runs_from_object

MIN_TOKENS = 60
ROOMY = 150  # tokens, from where on there is room to say where the sentences come from

_VERBS = {
    "looking_at": "looks at",
    "not_looking_at": "does not look at",
    "unsure": "may be looking at",
    "carrying": "carries",
    "covered_by": "is covered by",
    "drinking_from": "drinks from",
    "eating": "eats",
    "have_it_on_the_back": "has",
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
# Without relation scores: what the person does tells more than what they look at, and that more than what stands where.
_WEIGHT: dict[PredicateGroup, float] = {"contacting": 1.0, "attention": 0.6, "spatial": 0.4}
_SAYS_LITTLE = {"not_looking_at", "unsure", "not_contacting"}
# How many predicates of a group one sentence takes, and how far behind the best of the group a further one may be.
_MOST_OF_GROUP: dict[PredicateGroup, int] = {"contacting": 3, "attention": 1, "spatial": 2}
_CLOSE_BEHIND = 0.5

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

_PIECE = re.compile(r"[A-Za-z]+| {2,}|[^A-Za-z ]")
_LETTERS_OF_TOKEN = 4


@dataclass(frozen=True)
class _Name:
    text: str
    plural: bool = False


@dataclass(frozen=True)
class _Sentence:
    """What holds between one person and one thing at one time. `short` is one part of it, what is done before where."""

    start: float
    end: float
    text: str
    short: str
    telling: bool
    relevance: tuple[float, ...]
    about: tuple[int, int]


@dataclass
class Appearances:
    """Who and what appears in a video: all that a prompt needs of its frames, gathered frame by frame.

    labels  by id
    first   position of the first frame that shows it, by id
    last    position of the last frame that shows it, by id
    scores  sum over all frames, by label
    """

    labels: dict[int, str] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    frame_count: int = 0

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> Appearances:
        """What appears in all frames of a video."""
        appearances = cls()
        for frame in frames:
            appearances.add(frame)
        return appearances

    def add(self, frame: Frame) -> None:
        """Takes the next frame."""
        for thing in frame.objects:
            self.labels[thing.id] = thing.label
            self.first.setdefault(thing.id, self.frame_count)
            self.last[thing.id] = self.frame_count
            self.scores[thing.label] = self.scores.get(thing.label, 0.0) + thing.score
        self.frame_count += 1

    def counting(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Passes frames on, and takes each."""
        for frame in frames:
            self.add(frame)
            yield frame


def build_prompt(
    appearances: Appearances, relations: Sequence[Relation], *, duration: float | None, max_tokens: int = 400
) -> str:
    """Says in sentences who and what is in the video and what happens when, for a language model to caption.

    What matters most is kept when `max_tokens` (by `count_tokens`) is short: a relation's relevance is its relation
    score where the model has one, else its score times how long it lasts, weighted by its group. Sentences are never
    cut, and the most relevant stand first. Two things of one label are told apart ("the first chair") when they are
    there at the same time; otherwise they may well be one thing that was lost from sight, and share a name. `duration`
    is in seconds; None where unknown.

    Raises ValueError when `max_tokens` is under 60, in which not even the request for a caption and one sentence fit.
    """
    if max_tokens < MIN_TOKENS:
        raise ValueError(f"max_tokens must be at least {MIN_TOKENS}, not {max_tokens}")
    video = "video" if duration is None else f"{_seconds(duration)}-second video"
    labels = appearances.labels
    if not labels:
        return f"No people or relations were found in this {video}, so there is nothing to write a caption from."

    text = f"Write one short caption for this {video}."
    if max_tokens >= ROOMY:
        text = f"The following was read from a {video} by a scene-graph model. Write one short caption for the video."
    numbers = _number(appearances)
    names = _names(numbers, labels)
    # More relations than twice the tokens cannot be said, even when every sentence says several.
    most = 2 * min(max_tokens, 2000)
    sentences = _sentences(heapq.nlargest(most, relations, key=relevance), names)
    heading = "What happens, most relevant first:" if max_tokens >= ROOMY else "What happens:"
    if not sentences:
        heading = "No relations between them were found."
    room = max_tokens - count_tokens(f"{text}\n{heading}\n")

    needed = _Story(duration).cost(sentences[0].text, sentences[0]) if sentences else 0
    if inventory := _inventory(numbers, appearances, sentences, min(max_tokens // 4, room - needed)):
        text = f"{text}\n{inventory}"
        room -= count_tokens(f"\n{inventory}")
    story = _Story(duration)
    for sentence in sentences:
        form = next((form for form in (sentence.text, sentence.short) if story.cost(form, sentence) <= room), None)
        if form is None:
            break
        room -= story.cost(form, sentence)
        story.add(form, sentence)
    return "\n".join([text, heading, *story.lines()])


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


class _Story:
    """Sentences by the time they hold at, one line per time."""

    def __init__(self, duration: float | None) -> None:
        self._duration = duration
        self._texts: dict[str, list[str]] = {}

    def cost(self, text: str, sentence: _Sentence) -> int:
        """Tokens that the story grows by with this sentence."""
        when = self._when(sentence)
        return count_tokens(f"; {text}" if when in self._texts else f"\n{when}: {text}.")

    def add(self, text: str, sentence: _Sentence) -> None:
        self._texts.setdefault(self._when(sentence), []).append(text)

    def lines(self) -> list[str]:
        """In the order in which their first sentences were added."""
        return [f"{when}: {'; '.join(texts)}." for when, texts in self._texts.items()]

    def _when(self, sentence: _Sentence) -> str:
        start, end = _seconds(sentence.start), _seconds(sentence.end)
        if start == end:
            return f"At {start} s"
        if start == "0" and self._duration is not None and sentence.end >= self._duration:
            return "The whole time"
        return f"{start} to {end} s"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}".removesuffix(".0")


def _number(appearances: Appearances) -> dict[int, int]:
    """Numbers the things of every label from 1; things that are never there at the same time may share a number."""
    labels, first, last = appearances.labels, appearances.first, appearances.last
    numbers: dict[int, int] = {}
    taken_until: dict[str, list[int]] = {}
    for identity in sorted(first, key=lambda identity: (first[identity], identity)):
        ends = taken_until.setdefault(labels[identity], [])
        number = next((number for number, end in enumerate(ends) if end < first[identity]), len(ends))
        ends[number : number + 1] = [last[identity]]
        numbers[identity] = number + 1
    return numbers


def _counts(numbers: dict[int, int], labels: dict[int, str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for identity, number in numbers.items():
        counts[labels[identity]] = max(number, counts.get(labels[identity], 0))
    return counts


def _names(numbers: dict[int, int], labels: dict[int, str]) -> dict[int, _Name]:
    counts = _counts(numbers, labels)
    names = {}
    for identity, label in labels.items():
        noun = _NOUNS.get(label, label)
        if counts[label] == 1:
            names[identity] = _Name(f"the {noun}", plural=label in _PLURAL_NOUNS)
            continue
        number = numbers[identity]
        ordinal = _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"number {number}"
        counted = _COUNTED.get(label, noun)
        names[identity] = _Name(f"the {ordinal} {counted}" if number <= len(_ORDINALS) else f"{counted} {ordinal}")
    return names


def _inventory(
    numbers: dict[int, int], appearances: Appearances, sentences: Sequence[_Sentence], max_tokens: int
) -> str:
    """People and things, people first, then by relevance; as many as fit, or nothing."""
    labels, seen = appearances.labels, appearances.scores
    rank: dict[str, float] = {PERSON: -1.0}
    for position, sentence in enumerate(sentences):
        for identity in sentence.about:
            rank.setdefault(labels[identity], float(position))
    counts = _counts(numbers, labels)
    parts: list[str] = []
    for label in sorted(counts, key=lambda label: (rank.get(label, float(len(sentences))), -seen[label])):
        text = "People and things: " + ", ".join([*parts, _amount(label, counts[label])])
        rest = "." if len(parts) + 1 == len(counts) else ", among others."
        if count_tokens(text + rest) + 1 > max_tokens:
            break
        parts.append(_amount(label, counts[label]))
    if not parts:
        return ""
    return "People and things: " + ", ".join(parts) + ("." if len(parts) == len(counts) else ", among others.")


def _amount(label: str, count: int) -> str:
    noun = _NOUNS.get(label, label)
    if count == 1:
        return f"some {noun}" if label in _COUNTED else f"a {noun}"
    number = _NUMBERS[count - 2] if count - 2 < len(_NUMBERS) else str(count)
    return f"{number} {_PLURALS.get(label, noun + 's')}"


def relevance(relation: Relation) -> tuple[float, ...]:
    weight = _WEIGHT[GROUP_OF_PREDICATE[relation.predicate]] * relation.score * (relation.end - relation.start)
    return (weight if relation.relation_score is None else relation.relation_score, weight, relation.score)


def _sentences(relations: Sequence[Relation], names: dict[int, _Name]) -> list[_Sentence]:
    """Sentences about relations that come most relevant first, most relevant first."""
    pairs: dict[tuple[int, int], list[Relation]] = {}
    for relation in relations:
        ends = (relation.subject, relation.object)
        pairs.setdefault(ends[::-1] if runs_from_object(relation.predicate) else ends, []).append(relation)
    sentences: list[_Sentence] = []
    for about, rest in pairs.items():
        said = []
        while rest:
            together = [relation for relation in rest if _same_time(relation, rest[0])]
            rest = [relation for relation in rest if not _same_time(relation, rest[0])]
            said.append(_sentence(about, together, names))
        telling = [sentence for sentence in said if sentence.telling]
        sentences += telling
        sentences += [
            sentence
            for sentence in said
            if not sentence.telling
            and not any(other.start < sentence.end and sentence.start < other.end for other in telling)
        ]
    return sorted(sentences, key=lambda sentence: (sentence.telling, sentence.relevance), reverse=True)


def _same_time(relation: Relation, other: Relation) -> bool:
    """Whether both hold over intervals so alike that one sentence may tell them."""
    tolerance = min(1.0, 0.25 * min(relation.end - relation.start, other.end - other.start))
    return abs(relation.start - other.start) <= tolerance and abs(relation.end - other.end) <= tolerance


def _sentence(about: tuple[int, int], together: Sequence[Relation], names: dict[int, _Name]) -> _Sentence:
    """One sentence of one pair's relations at one time, most relevant first; the first that is said gives the time."""
    chosen: list[str] = []
    for group, most in _MOST_OF_GROUP.items():
        of_group = [relation for relation in together if GROUP_OF_PREDICATE[relation.predicate] == group]
        of_group.sort(key=lambda relation: -relation.score)
        # Where "does not touch" scores best, the touches below it are not what the model says.
        if of_group and of_group[0].predicate in _SAYS_LITTLE:
            of_group = of_group[:1]
        close = [
            relation.predicate
            for relation in of_group
            if relation.score >= _CLOSE_BEHIND * of_group[0].score
            and (relation is of_group[0] or relation.predicate not in _SAYS_LITTLE)
        ]
        chosen += close[:most]
    telling = [predicate for predicate in chosen if predicate not in _SAYS_LITTLE]
    said = telling or chosen
    leader = next(relation for relation in together if relation.predicate in said)
    person, thing = (names[identity] for identity in about)
    return _Sentence(
        start=leader.start,
        end=leader.end,
        text=_clause(person, thing, said),
        short=_clause(person, thing, said[:1]),
        telling=bool(telling),
        relevance=relevance(leader),
        about=about,
    )


def _clause(person: _Name, thing: _Name, predicates: Sequence[str]) -> str:
    """ "the person holds and looks at the cup, which is in front of them"."""
    # One is in what one wears.
    implied = {"in"} if "wearing" in predicates else set()
    verbs = [_VERBS[predicate] for predicate in predicates if predicate in _VERBS and predicate not in implied]
    places = _listed([_PLACES[predicate] for predicate in predicates if predicate in _PLACES])
    be = "are" if thing.plural else "is"
    if not verbs:
        return f"{thing.text} {be} {places} {person.text}"
    if "have_it_on_the_back" in predicates:
        others = [verb for verb in verbs if verb != _VERBS["have_it_on_the_back"]]
        done = f"has {thing.text} on their back"
        if others:
            done += f" and {_listed(others)} {'them' if thing.plural else 'it'}"
    else:
        done = f"{_listed(verbs)} {thing.text}"
    return f"{person.text} {done}" + (f", which {be} {places} them" if places else "")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

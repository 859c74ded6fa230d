"""Words of queries: labels and predicates of the vocabularies that a search meets, and groups of labels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from models.graph.phrases import plural_of
from models.graph.vocabulary import Vocabulary
from service.search.errors import UnknownWord

LABEL_GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "furniture": (
        "bed", "bench", "cabinet", "chair", "closet", "couch", "desk", "dining table", "shelf", "sofa", "stool",
        "table", "wardrobe",
    ),
    "electronics": (
        "camera", "cell phone", "computer", "keyboard", "laptop", "monitor", "mouse", "phone", "remote", "television",
        "tv",
    ),
    "edible": (
        "apple", "banana", "bread", "broccoli", "cake", "carrot", "donut", "food", "fruit", "groceries", "hot dog",
        "meal", "orange", "pizza", "sandwich", "vegetable",
    ),
    "vessel": ("bottle", "bowl", "cup", "dish", "glass", "mug", "plate", "pot", "wine glass"),
    "luggage": ("backpack", "bag", "box", "briefcase", "handbag", "suitcase"),
    "clothing": ("clothes", "coat", "hat", "jacket", "shirt", "shoe", "tie", "trousers"),
    "animal": ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra"),
    "vehicle": ("airplane", "bicycle", "boat", "bus", "car", "motorcycle", "train", "truck"),
}  # fmt: skip
"""Group to words for labels. A word that a vocabulary does not know is passed over."""
ANYTHING: Final = "anything"
RELATED_TO: Final = "related_to"
_MOST_NEAR = 3


@dataclass(frozen=True)
class Words:
    """Words that a query may use.

    labels: of objects.
    subjects: those labels that can be the subject of a pair.
    predicates: predicate to whether its triplets read `<object, predicate, subject>`, or None where vocabularies
        disagree.
    predicate_groups: group to its predicates, without those that say little, such as `not_looking_at`.
    label_groups: group to words for its labels.
    """

    labels: tuple[str, ...]
    subjects: tuple[str, ...]
    predicates: Mapping[str, bool | None]
    predicate_groups: Mapping[str, tuple[str, ...]]
    label_groups: Mapping[str, Sequence[str]] = field(default_factory=lambda: LABEL_GROUPS)

    @classmethod
    def of(cls, *vocabularies: Vocabulary, label_groups: Mapping[str, Sequence[str]] = LABEL_GROUPS) -> Words:
        """Returns the words of all these vocabularies together."""
        directions: dict[str, set[bool]] = {}
        groups: dict[str, dict[str, None]] = {}
        for group in (group for vocabulary in vocabularies for group in vocabulary.groups):
            telling = [predicate for predicate in group.predicates if predicate not in group.says_little]
            groups.setdefault(group.name, {}).update(dict.fromkeys(telling))
            for predicate in group.predicates:
                directions.setdefault(predicate, set()).add(group.runs_from_object)
        return cls(
            labels=_distinct(label for vocabulary in vocabularies for label in vocabulary.objects),
            subjects=_distinct(label for vocabulary in vocabularies for label in vocabulary.subjects),
            predicates={name: found.pop() if len(found) == 1 else None for name, found in directions.items()},
            predicate_groups={name: tuple(predicates) for name, predicates in groups.items()},
            label_groups=label_groups,
        )

    def labels_of(self, word: str) -> tuple[str, ...] | None:
        """Returns the labels that a word stands for, or None for `anything`.

        A word is a label, one of the parts of `cup/glass/bottle`, the plural of either, or a group of labels; the first
        that fits counts. Spaces and underscores are the same, and so are capitals and small letters.

        Raises UnknownWord.
        """
        wanted = _plain(word)
        for known in self._label_tables:
            if wanted in known:
                return known[wanted]
        if wanted == ANYTHING:
            return None
        _, parts, plurals, groups = self._label_tables
        raise UnknownWord(word, _nearest(wanted, [*parts, *plurals, *groups]) or [*parts, *groups])

    def predicates_of(self, word: str) -> tuple[str, ...] | None:
        """Returns the predicates that a word stands for: one, or those of a group. None stands for `related_to`.

        Raises UnknownWord.
        """
        wanted = _plain(word)
        for known in self._predicate_tables:
            if wanted in known:
                return known[wanted]
        if wanted == _plain(RELATED_TO):
            return None
        names = {_plain(name): name for name in (*self.predicates, *self.predicate_groups)}
        raise UnknownWord(word, [names[near] for near in _nearest(wanted, [*names])] or [*names.values()])

    @cached_property
    def _label_tables(self) -> tuple[dict[str, tuple[str, ...]], ...]:
        whole = _index((label, label) for label in self.labels)
        parts = _index((part, label) for label in self.labels for part in label.split("/") if part)
        named = {**parts, **whole}
        plurals = _index(
            (plural, label)
            for name, labels in named.items()
            for plural in (plural_of(name), f"{name}s")
            for label in labels
        )
        groups = _index(
            (group, label)
            for group, words in self.label_groups.items()
            for word in words
            for label in named.get(_plain(word), ())
        )
        return whole, parts, plurals, groups

    @cached_property
    def _predicate_tables(self) -> tuple[dict[str, tuple[str, ...]], ...]:
        groups = {_plain(name): predicates for name, predicates in self.predicate_groups.items()}
        return _index((name, name) for name in self.predicates), groups


def _plain(word: str) -> str:
    return " ".join(word.replace("_", " ").casefold().split())


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _index(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Plain word to the distinct names that come with it."""
    found: dict[str, dict[str, None]] = {}
    for word, name in pairs:
        found.setdefault(_plain(word), {})[name] = None
    return {word: tuple(names) for word, names in found.items()}


def _nearest(word: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(word, list(dict.fromkeys(known)), n=_MOST_NEAR, cutoff=0.65)

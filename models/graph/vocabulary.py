"""Vocabularies: the objects and predicates that a model knows, and the words for them in a sentence.

A bundle's manifest has its vocabulary, and so does every graph that the bundle makes. All code reads it from there.
`ACTION_GENOME` is the default: 36 objects and 26 predicates in three groups. An index into its objects is the field's
class index minus one, because no column stands for the background.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from models.graph.phrases import noun_of, phrase_of, plural_of

Direction = Literal["subject_to_object", "object_to_subject"]
GroupName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


def _printable(label: str) -> str:
    if label != label.strip() or not label.isprintable():
        raise ValueError(f"{label!r} has characters that cannot be shown, or spaces around it; give another name")
    return label


def _without_repetition(names: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := _first_repeated(names):
        raise ValueError(f"{repeated!r} is named twice")
    return names


Label = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
Labels = Annotated[tuple[Label, ...], Field(min_length=1), AfterValidator(_without_repetition)]


def _optional(default: Any) -> Any:
    """Returns a field that JSON leaves out where it has its default."""
    factory = type(default)
    return Field(default_factory=lambda: factory(default), exclude_if=lambda value: value == default)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Noun:
    """Words for a label in a sentence. The rules of English make those that are empty from the label.

    singular: such as "closet".
    plural: such as "boxes".
    counted: a noun for one of several, where the noun itself cannot be counted, such as "set of clothes". A single one
        is then "some clothes".
    is_plural: whether the pronoun is "them", as it is for clothes.
    """

    singular: str = _optional("")
    plural: str = _optional("")
    counted: str = _optional("")
    is_plural: bool = _optional(False)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PredicateGroup:
    """Predicates that one head of a network scores together.

    Raises ValueError where a field names a predicate that is not in the group. The fields from `phrases` on serve
    prompts, and may be left out.

    name: name of the group, and of the stage output with its scores.
    predicates: names, in the order of the output's columns.
    direction: direction of a triplet. `object_to_subject` gives `<table, in_front_of, person>`.
    exclusive: whether at most one predicate of the group holds. Then a softmax makes the scores instead of sigmoids,
        and the constraint `semi` keeps only the best.
    phrases: predicate to the words of a sentence about the subject, such as "sits on". `{}` stands for the thing where
        it does not come last, and "them" or "their" for the subject, such as "has {} behind them". See `phrase`.
    weight: weight of an event of the group beside those of other groups, from 0 up.
    says_little: predicates that are told only where there is nothing else to tell, such as `not_looking_at`.
    overshadowed_by: groups whose predicates, while they hold, make this group's superfluous. For example, nobody needs
        the place of a thing that somebody touches.
    implied_by: predicate to those that make it superfluous. For example, one is `in` the clothes one is `wearing`.
    """

    name: GroupName
    predicates: Labels
    direction: Direction = "subject_to_object"
    exclusive: bool = False
    phrases: dict[str, str] = _optional({})
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _optional(1.0)
    says_little: tuple[str, ...] = _optional(())
    overshadowed_by: tuple[GroupName, ...] = _optional(())
    implied_by: dict[str, tuple[str, ...]] = _optional({})

    def __post_init__(self) -> None:
        for field, named in (
            ("phrases", self.phrases), ("says_little", self.says_little), ("implied_by", self.implied_by)
        ):  # fmt: skip
            _check_known(f"{field} of the group {self.name!r}", named, self.predicates, "its predicates")

    @property
    def runs_from_object(self) -> bool:
        """Whether triplets read `<object, predicate, subject>`."""
        return self.direction == "object_to_subject"

    def phrase(self, predicate: str) -> str:
        """Returns the words of a sentence about the subject, made of the predicate's name where `phrases` has none.

        >>> PredicateGroup(name="holding", predicates=("reaching_for",)).phrase("reaching_for")
        'is reaching for'
        """
        words = self.phrases.get(predicate)
        return phrase_of(predicate, from_object=self.runs_from_object) if words is None else words


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Vocabulary:
    """The objects and predicates that a model can name.

    Raises ValueError where a name is repeated, or where a field uses a name that is not defined.

    objects: any names that a detector uses, in the order of the columns of `object_scores`.
    subjects: those of `objects` that may be the subject of a pair.
    groups: groups of predicates. `predicates` joins theirs in this order.
    nouns: label to its words in a sentence, where the label itself is not the right noun.
    """

    objects: Labels
    subjects: Labels = ("person",)
    groups: Annotated[tuple[PredicateGroup, ...], Field(min_length=1)]
    nouns: dict[str, Noun] = _optional({})

    def __post_init__(self) -> None:
        _check_known("subjects", self.subjects, self.objects, "the objects")
        _check_known("nouns", self.nouns, self.objects, "the objects")
        for names, kind in ((self.group_names, "group"), (self.predicates, "predicate")):
            if repeated := _first_repeated(names):
                raise ValueError(f"groups name the {kind} {repeated!r} twice; give one of them another name")
        for group in self.groups:
            field = f"of the group {group.name!r}"
            _check_known(f"overshadowed_by {field}", group.overshadowed_by, self.group_names, "the groups")
            for names in group.implied_by.values():
                _check_known(f"implied_by {field}", names, self.predicates, "the predicates")

    @cached_property
    def predicates(self) -> tuple[str, ...]:
        """The predicates of all groups, in the order of the columns of `predicate_scores`."""
        return tuple(predicate for group in self.groups for predicate in group.predicates)

    @cached_property
    def object_index(self) -> dict[str, int]:
        """Object to column."""
        return {name: index for index, name in enumerate(self.objects)}

    @cached_property
    def predicate_index(self) -> dict[str, int]:
        """Predicate to column."""
        return {name: index for index, name in enumerate(self.predicates)}

    @cached_property
    def subject_indices(self) -> tuple[int, ...]:
        """The columns of `subjects` among the objects."""
        return tuple(self.object_index[name] for name in self.subjects)

    @cached_property
    def things(self) -> tuple[str, ...]:
        """The objects that are not subjects, in order. Only they may be the object of a pair."""
        return tuple(name for name in self.objects if name not in self.subjects)

    @cached_property
    def thing_indices(self) -> tuple[int, ...]:
        """The columns of `things` among the objects."""
        return tuple(self.object_index[name] for name in self.things)

    @cached_property
    def group_slices(self) -> dict[str, slice]:
        """Group name to its columns among the predicates."""
        slices, start = {}, 0
        for group in self.groups:
            slices[group.name] = slice(start, start + len(group.predicates))
            start += len(group.predicates)
        return slices

    @cached_property
    def predicates_that_say_little(self) -> tuple[int, ...]:
        """The columns of all groups' `says_little` among the predicates."""
        return tuple(self.predicate_index[name] for group in self.groups for name in group.says_little)

    @cached_property
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups, in order."""
        return tuple(group.name for group in self.groups)

    @cached_property
    def _group_of(self) -> dict[str, PredicateGroup]:
        return {predicate: group for group in self.groups for predicate in group.predicates}

    def same_columns(self, other: Vocabulary) -> bool:
        """Whether every index and column means the same in both. Words for sentences may differ."""

        def columns(vocabulary: Vocabulary) -> Any:
            groups = [(group.name, group.predicates, group.direction, group.exclusive) for group in vocabulary.groups]
            return vocabulary.objects, vocabulary.subjects, groups

        return self is other or columns(self) == columns(other)

    def group_of(self, predicate: str) -> PredicateGroup:
        """Returns the group of a predicate. Raises KeyError where it is not in this vocabulary."""
        return self._group_of[predicate]

    def runs_from_object(self, predicate: str) -> bool:
        """Whether the triplet reads `<object, predicate, subject>`. Raises KeyError as `group_of` does."""
        return self.group_of(predicate).runs_from_object

    def noun(self, label: str) -> Noun:
        """Returns the words for a label, and fills in all that `nouns` leaves empty but `counted`."""
        given = self.nouns.get(label, Noun())
        singular = given.singular or noun_of(label)
        plural = given.plural or plural_of(given.counted or singular)
        return Noun(singular, plural, given.counted, given.is_plural)


def _check_known(field: str, names: Iterable[str], known: Collection[str], kind: str) -> None:
    if unknown := next((name for name in names if name not in known), None):
        raise ValueError(f"{field} name {unknown!r}, which is not one of {kind}")


def _first_repeated(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


ACTION_GENOME: Final = Vocabulary(
    objects=(
        "person", "bag", "bed", "blanket", "book", "box", "broom", "chair", "closet/cabinet", "clothes",
        "cup/glass/bottle", "dish", "door", "doorknob", "doorway", "floor", "food", "groceries", "laptop", "light",
        "medicine", "mirror", "paper/notebook", "phone/camera", "picture", "pillow", "refrigerator", "sandwich",
        "shelf", "shoe", "sofa/couch", "table", "television", "towel", "vacuum", "window",
    ),
    groups=(
        PredicateGroup(
            name="attention",
            predicates=("looking_at", "not_looking_at", "unsure"),
            exclusive=True,
            phrases={
                "looking_at": "looks at",
                "not_looking_at": "does not look at",
                "unsure": "may be looking at",
            },
            weight=0.6,
            says_little=("not_looking_at", "unsure"),
        ),
        PredicateGroup(
            name="spatial",
            predicates=("above", "beneath", "in_front_of", "behind", "on_the_side_of", "in"),
            direction="object_to_subject",
            phrases={
                "above": "has {} above them",
                "beneath": "has {} beneath them",
                "in_front_of": "has {} in front of them",
                "behind": "has {} behind them",
                "on_the_side_of": "has {} beside them",
                # Annotators say it of the object, but mean beds, doorways and clothes that the person is in.
                "in": "is in",
            },
            weight=0.4,
            overshadowed_by=("contacting",),
            implied_by={"in": ("wearing",)},
        ),
        PredicateGroup(
            name="contacting",
            predicates=(
                "carrying", "covered_by", "drinking_from", "eating", "have_it_on_the_back", "holding", "leaning_on",
                "lying_on", "not_contacting", "other_relationship", "sitting_on", "standing_on", "touching",
                "twisting", "wearing", "wiping", "writing_on",
            ),
            phrases={
                "carrying": "carries",
                "covered_by": "is covered by",
                "drinking_from": "drinks from",
                "eating": "eats",
                "have_it_on_the_back": "has {} on their back",
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
            },
            says_little=("not_contacting",),
        ),
    ),
    nouns={
        "closet/cabinet": Noun("closet"),
        "clothes": Noun(counted="set of clothes", is_plural=True),
        "cup/glass/bottle": Noun("cup or bottle"),
        "food": Noun(counted="item of food"),
        "groceries": Noun(counted="set of groceries", is_plural=True),
        "medicine": Noun(counted="item of medicine"),
        "paper/notebook": Noun("notebook"),
        "phone/camera": Noun("phone"),
        "sofa/couch": Noun("sofa"),
    },
)  # fmt: skip
"""Action Genome's objects and predicates, in the order of its files."""

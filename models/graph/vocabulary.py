"""Vocabularies: the objects and predicates that a model knows, and how its predicates are read.

A bundle's manifest carries its vocabulary, and everything that handles a graph reads it from there. `ACTION_GENOME` is
the default: 36 objects and 26 predicates in three groups. An index into its objects is the field's class index minus
one, since no column stands for the background.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

Direction = Literal["subject_to_object", "object_to_subject"]
GroupName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Label = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PredicateGroup:
    """Predicates that one head of a network scores together.

    name: of the group, and of the stage output with its scores.
    predicates: in the order of the output's columns.
    direction: which way a triplet reads. `object_to_subject` gives `<table, in_front_of, person>`.
    exclusive: whether one predicate of the group holds at most. Its scores then come from a softmax, others' from
        sigmoids, and the constraint `semi` keeps only the best.
    phrases: predicate to the words of a sentence, as in "The person sits on the chair"; see `phrase`.
    """

    name: GroupName
    predicates: Annotated[tuple[Label, ...], Field(min_length=1)]
    direction: Direction = "subject_to_object"
    exclusive: bool = False
    phrases: dict[str, str] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := sorted(self.phrases.keys() - set(self.predicates)):
            raise ValueError(f"phrases of group {self.name!r} name {unknown[0]!r}, which is not one of its predicates")

    def phrase(self, predicate: str) -> str:
        """The words between subject and object, such as `sits on`; made of the predicate's name where none are given.

        >>> PredicateGroup(name="holding", predicates=("reaching_for",)).phrase("reaching_for")
        'is reaching for'
        """
        words = self.phrases.get(predicate)
        return words if words is not None else _phrase_of(predicate)


def _phrase_of(predicate: str) -> str:
    words = predicate.replace("_", " ").strip()
    first = words.partition(" ")[0]
    if first.endswith("s") and not first.endswith("ss"):  # already a verb: "rides", "has on"
        return words
    return f"is {words}"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Vocabulary:
    """What a model can name.

    objects: in the order of the columns of `object_scores`; any names a detector uses.
    subjects: those of `objects` that may be the subject of a pair.
    groups: of predicates; `predicates` joins theirs in this order.
    """

    objects: Annotated[tuple[Label, ...], Field(min_length=1)]
    groups: Annotated[tuple[PredicateGroup, ...], Field(min_length=1)]
    subjects: Annotated[tuple[Label, ...], Field(min_length=1)] = ("person",)

    @field_validator("objects", "subjects")
    @classmethod
    def _no_name_twice(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := [name for index, name in enumerate(names) if name in names[:index]]:
            raise ValueError(f"{repeated[0]!r} stands there twice")
        return names

    def __post_init__(self) -> None:
        if unknown := [name for name in self.subjects if name not in self.objects]:
            raise ValueError(f"subjects name {unknown[0]!r}, which is not one of the objects")
        for names, what in (([group.name for group in self.groups], "group"), (self.predicates, "predicate")):
            if repeated := [name for index, name in enumerate(names) if name in names[:index]]:
                raise ValueError(f"two groups have the {what} {repeated[0]!r}" if what == "predicate"
                                 else f"two groups are named {repeated[0]!r}")  # fmt: skip

    @cached_property
    def predicates(self) -> tuple[str, ...]:
        """Those of all groups, in the order of the columns of `predicate_scores`."""
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
        """The objects that are no subjects, in order: what the object of a pair may be."""
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
    def group_names(self) -> tuple[str, ...]:
        """In order."""
        return tuple(group.name for group in self.groups)

    @cached_property
    def _group_of(self) -> dict[str, PredicateGroup]:
        return {predicate: group for group in self.groups for predicate in group.predicates}

    def group_of(self, predicate: str) -> PredicateGroup:
        """The group of a predicate. Raises KeyError where it is not in this vocabulary."""
        return self._group_of[predicate]

    def runs_from_object(self, predicate: str) -> bool:
        """Whether the triplet reads `<object, predicate, subject>`."""
        return self.group_of(predicate).direction == "object_to_subject"


ACTION_GENOME: Final = Vocabulary(
    objects=(
        "person", "bag", "bed", "blanket", "book", "box", "broom", "chair", "closet/cabinet", "clothes",
        "cup/glass/bottle", "dish", "door", "doorknob", "doorway", "floor", "food", "groceries", "laptop", "light",
        "medicine", "mirror", "paper/notebook", "phone/camera", "picture", "pillow", "refrigerator", "sandwich",
        "shelf", "shoe", "sofa/couch", "table", "television", "towel", "vacuum", "window",
    ),
    groups=(
        PredicateGroup(name="attention", predicates=("looking_at", "not_looking_at", "unsure"), exclusive=True),
        PredicateGroup(
            name="spatial",
            predicates=("above", "beneath", "in_front_of", "behind", "on_the_side_of", "in"),
            direction="object_to_subject",
        ),
        PredicateGroup(
            name="contacting",
            predicates=(
                "carrying", "covered_by", "drinking_from", "eating", "have_it_on_the_back", "holding", "leaning_on",
                "lying_on", "not_contacting", "other_relationship", "sitting_on", "standing_on", "touching",
                "twisting", "wearing", "wiping", "writing_on",
            ),
        ),
    ),
)  # fmt: skip
"""Action Genome's objects and predicates, in the order of its files."""

# Transitional names, to be gone when everything takes a Vocabulary.
PERSON: Final = "person"
OBJECT_CLASSES: Final = ACTION_GENOME.objects
ATTENTION, SPATIAL, CONTACTING = (group.predicates for group in ACTION_GENOME.groups)
PREDICATES: Final = ACTION_GENOME.predicates
PREDICATES_OF_GROUP: Final = {group.name: group.predicates for group in ACTION_GENOME.groups}
GROUPS: Final = ACTION_GENOME.group_names
OBJECT_INDEX: Final = ACTION_GENOME.object_index
PREDICATE_INDEX: Final = ACTION_GENOME.predicate_index
GROUP_OF_PREDICATE: Final = {name: ACTION_GENOME.group_of(name).name for name in PREDICATES}
GROUP_SLICE: Final = ACTION_GENOME.group_slices
RAW_OBJECT_CLASSES: Final = tuple(name.replace("/", "") for name in OBJECT_CLASSES)
RAW_PREDICATES: Final = tuple(name.replace("_", "") for name in PREDICATES)
runs_from_object = ACTION_GENOME.runs_from_object

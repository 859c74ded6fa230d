"""Things, relations and times read as a person would say them."""

from __future__ import annotations

import pytest

from models.graph.vocabulary import ACTION_GENOME, Noun, PredicateGroup, Vocabulary
from service.prompt.moments import Entity
from service.prompt.words import amount_of, clause_of, length_of, names_of, presence_of, time_of

PHRASES = {
    "looking_at": "looks at the cup or bottle",
    "not_looking_at": "does not look at the cup or bottle",
    "unsure": "may be looking at the cup or bottle",
    "above": "has the cup or bottle above them",
    "beneath": "has the cup or bottle beneath them",
    "in_front_of": "has the cup or bottle in front of them",
    "behind": "has the cup or bottle behind them",
    "on_the_side_of": "has the cup or bottle beside them",
    "in": "is in the cup or bottle",
    "carrying": "carries the cup or bottle",
    "covered_by": "is covered by the cup or bottle",
    "drinking_from": "drinks from the cup or bottle",
    "eating": "eats the cup or bottle",
    "have_it_on_the_back": "has the cup or bottle on their back",
    "holding": "holds the cup or bottle",
    "leaning_on": "leans on the cup or bottle",
    "lying_on": "lies on the cup or bottle",
    "not_contacting": "does not touch the cup or bottle",
    "other_relationship": "interacts with the cup or bottle",
    "sitting_on": "sits on the cup or bottle",
    "standing_on": "stands on the cup or bottle",
    "touching": "touches the cup or bottle",
    "twisting": "twists the cup or bottle",
    "wearing": "wears the cup or bottle",
    "wiping": "wipes the cup or bottle",
    "writing_on": "writes on the cup or bottle",
}


def name_of(label: str, number: int = 1, count: int = 1) -> str:
    return names_of((Entity(label, one) for one in range(1, count + 1)), ACTION_GENOME)[Entity(label, number)].text


def phrase(label: str, *predicates: str, is_known: bool = False) -> str:
    entity = Entity(label, 1)
    return clause_of(names_of([entity], ACTION_GENOME)[entity], predicates, ACTION_GENOME, is_known=is_known)


def amount(label: str, count: int) -> str:
    return amount_of(label, count, ACTION_GENOME)


def test_every_predicate_has_its_phrase() -> None:
    assert {predicate: phrase("cup/glass/bottle", predicate) for predicate in ACTION_GENOME.predicates} == PHRASES


@pytest.mark.parametrize(
    ("predicates", "said"),
    [
        (["holding", "looking_at"], "holds and looks at the bag"),
        (["wiping", "holding", "touching", "looking_at"], "wipes, holds, touches and looks at the bag"),
        (["looking_at", "have_it_on_the_back"], "has the bag on their back and looks at it"),
        (["in_front_of", "above"], "has the bag in front of and above them"),
        (["looking_at", "in"], "looks at and is in the bag"),
        (["wearing", "in"], "wears the bag"),
        (["looking_at", "on_the_side_of"], "looks at the bag and has it beside them"),
    ],
)
def test_predicates_of_one_thing_share_a_phrase(predicates: list[str], said: str) -> None:
    assert phrase("bag", *predicates) == said


def test_a_thing_that_was_just_named_is_called_it_or_them() -> None:
    assert phrase("bag", "looking_at", is_known=True) == "looks at it"
    assert phrase("groceries", "have_it_on_the_back", "looking_at", is_known=True) == (
        "has them on their back and looks at them"
    )


@pytest.mark.parametrize("label", ACTION_GENOME.objects)
def test_no_name_keeps_its_slash(label: str) -> None:
    assert "/" not in name_of(label) + name_of(label, 2, 2) + amount(label, 1) + amount(label, 2)


def test_one_of_several_is_numbered_and_all_are_counted() -> None:
    assert [name_of("chair"), name_of("chair", 2, 2), name_of("food", 2, 2)] == [
        "the chair",
        "the second chair",
        "the second item of food",
    ]
    assert name_of("shoe", 13, 13) == "shoe number 13"
    assert [amount("chair", 1), amount("food", 1), amount("person", 2), amount("shoe", 13)] == [
        "a chair",
        "some food",
        "two people",
        "13 shoes",
    ]


@pytest.mark.parametrize(
    ("start", "end", "duration", "said"),
    [
        (0.0, 10.0, 10.0, "throughout"),
        (0.0, 9.8, 10.0, "throughout"),
        (0.0, 4.0, 10.0, "until 4 s"),
        (2.5, 10.0, 10.0, "from 3 s on"),
        (2.5, 7.0, 10.0, "3 to 7 s"),
        (4.0, 4.4, 10.0, "at 4 s"),
        (0.0, 0.0, 10.0, "at 0 s"),
        (1.0, 2.5, 4.0, "1 to 2.5 s"),
        (65.0, 130.0, 1000.0, "1:05 to 2:10"),
        (600.0, 1000.0, 1000.0, "from 10:00 on"),
        (65.0, 130.0, None, "1:05 to 2:10"),
        (4234.5, 5299.5, 9000.0, "71 to 88 min"),
    ],
)
def test_times_are_said_as_people_do(start: float, end: float, duration: float | None, said: str) -> None:
    assert time_of(start, end, duration) == said


@pytest.mark.parametrize(
    ("duration", "said"),
    [
        (0.04, "0.04-second"),
        (1 / 30, "0.03-second"),
        (2.5, "2.5-second"),
        (12.4, "12-second"),
        (320.0, "5-minute"),
        (9000.0, "150-minute"),
    ],
)
def test_lengths_are_said_as_people_do(duration: float, said: str) -> None:
    assert length_of(duration) == said


def test_a_single_frame_has_a_length_too() -> None:
    assert length_of(0.04) == "0.04-second"
    assert length_of(1 / 30) == "0.03-second"
    assert length_of(0.05) == "0.1-second"


FACTORY = Vocabulary(
    objects=("crate", "apple/pear", "robot"),
    subjects=("robot",),
    groups=(
        PredicateGroup(name="placing", predicates=("near", "stacked_over"), direction="object_to_subject"),
        PredicateGroup(
            name="handling",
            predicates=("lifts", "reaching_for", "grips"),
            phrases={"grips": "grips {} with both arms", "lifts": "picks {} up"},
            implied_by={"reaching_for": ("lifts",)},
        ),
    ),
    nouns={"crate": Noun("wooden crate")},
)  # fmt: skip


@pytest.mark.parametrize(
    ("predicates", "said"),
    [
        (["reaching_for"], "is reaching for the wooden crate"),
        (["near"], "has the wooden crate near them"),
        (["near", "stacked_over"], "has the wooden crate near and stacked over them"),
        (["near", "reaching_for"], "is reaching for the wooden crate and has it near them"),
        (["reaching_for", "grips"], "grips the wooden crate with both arms and is reaching for it"),
        (["reaching_for", "lifts"], "picks the wooden crate up"),
    ],
)
def test_clauses_of_another_vocabulary_read_as_english(predicates: list[str], said: str) -> None:
    crate = Entity("crate", 1)
    assert clause_of(names_of([crate], FACTORY)[crate], predicates, FACTORY) == said


def test_things_of_another_vocabulary_are_counted_in_english() -> None:
    amounts = [amount_of(label, count, FACTORY) for label in FACTORY.objects for count in (1, 2)]
    assert amounts == [
        "a wooden crate", "two wooden crates", "an apple or pear", "two apples or pears", "a robot", "two robots",
    ]  # fmt: skip


def test_more_of_what_was_told_before_is_counted_in_english() -> None:
    amounts = [amount_of(label, count, ACTION_GENOME, more=True) for label in ("person", "clothes") for count in (1, 2)]
    assert amounts == ["another person", "two more people", "another set of clothes", "two more sets of clothes"]


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([[(0.0, 10.0)]], "throughout"),
        ([[(3.0, 5.0), (9.0, 10.2)]], "3 to 5 s, from 9 s on"),
        ([[(0.0, 4.0)], [(6.0, 8.0)]], "the first until 4 s, the second 6 to 8 s"),
        ([[(0.0, 4.0)], [(0.0, 4.0)]], "until 4 s"),
        ([[(1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0)]], "now and then, 1 to 8 s"),
        ([[(0.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 10.0)]], "now and then"),
    ],
)
def test_the_times_at_which_people_are_there_are_said_as_people_do(
    spans: list[list[tuple[float, float]]], said: str
) -> None:
    people = {Entity("person", number): each for number, each in enumerate(spans, start=1)}
    assert presence_of(people, 10.0) == said

"""A vocabulary names objects and predicates in an order that indices depend on, and refuses to contradict itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from models.graph.vocabulary import ACTION_GENOME, Noun, PredicateGroup, Vocabulary

TYPE = TypeAdapter(Vocabulary)
CARRYING = {"name": "carrying", "predicates": ["lifts", "drops"]}
PLACING = {"name": "placing", "predicates": ["inside"], "direction": "object_to_subject"}
SMALL = {"objects": ["crate", "person"], "groups": [CARRYING, PLACING]}


def test_action_genome_has_36_objects_and_26_predicates_in_3_groups() -> None:
    assert len(ACTION_GENOME.objects) == len(set(ACTION_GENOME.objects)) == 36
    assert len(ACTION_GENOME.predicates) == len(set(ACTION_GENOME.predicates)) == 26
    assert {group.name: len(group.predicates) for group in ACTION_GENOME.groups} == {
        "attention": 3, "spatial": 6, "contacting": 17,
    }  # fmt: skip
    assert [group.name for group in ACTION_GENOME.groups if group.exclusive] == ["attention"]


def test_its_person_comes_first_and_its_things_are_in_alphabetical_order_as_on_disk() -> None:
    assert ACTION_GENOME.objects[0] == "person"
    assert ACTION_GENOME.subjects == ("person",)
    assert list(ACTION_GENOME.things) == sorted(ACTION_GENOME.objects[1:])


def test_its_indices_are_those_of_the_field() -> None:
    # Action Genome counts from 1 (0 is background): bag is 2, window 36.
    objects, predicates = ACTION_GENOME.object_index, ACTION_GENOME.predicate_index
    assert (objects["bag"] + 1, objects["window"] + 1) == (2, 36)
    assert (predicates["looking_at"], predicates["above"], predicates["writing_on"]) == (0, 3, 25)


def test_only_its_spatial_triplets_run_from_the_object_to_the_person() -> None:
    spatial = next(group for group in ACTION_GENOME.groups if group.name == "spatial")
    assert {name for name in ACTION_GENOME.predicates if ACTION_GENOME.runs_from_object(name)} == set(
        spatial.predicates
    )


def test_every_predicate_of_action_genome_has_its_own_words() -> None:
    for group in ACTION_GENOME.groups:
        assert group.phrases.keys() == set(group.predicates)


def test_slices_cut_the_predicates_into_their_groups() -> None:
    for vocabulary in (ACTION_GENOME, TYPE.validate_python(SMALL)):
        for group in vocabulary.groups:
            assert vocabulary.predicates[vocabulary.group_slices[group.name]] == group.predicates
            assert all(vocabulary.group_of(predicate) is group for predicate in group.predicates)


def test_subjects_and_things_have_their_columns() -> None:
    vocabulary = TYPE.validate_python({**SMALL, "objects": ["crate", "robot", "jar", "person"], "subjects": ["person"]})
    assert (vocabulary.subject_indices, vocabulary.thing_indices) == ((3,), (0, 1, 2))
    assert vocabulary.things == ("crate", "robot", "jar")


def test_the_subject_is_a_person_unless_it_says_otherwise() -> None:
    assert TYPE.validate_python(SMALL).subjects == ("person",)


def test_json_leaves_out_what_has_its_default_and_comes_back_as_it_was() -> None:
    small = TYPE.validate_python(SMALL)
    assert TYPE.dump_python(small, mode="json") == {
        "objects": ["crate", "person"],
        "subjects": ["person"],
        "groups": [
            {**CARRYING, "direction": "subject_to_object", "exclusive": False},
            {**PLACING, "exclusive": False},
        ],
    }
    for vocabulary in (small, ACTION_GENOME):
        assert TYPE.validate_json(TYPE.dump_json(vocabulary)) == vocabulary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objects": []}, "objects: .*at least 1"),
        ({"objects": ["person", "person"]}, "objects: .*'person' is named twice"),
        ({"objects": ["person", "two\nlines"]}, r"objects.1: .*'two\\nlines' has characters that cannot be shown"),
        ({"objects": ["person", " crate"]}, "objects.1: .*spaces around it"),
        ({"objects": ["crate"]}, "subjects name 'person', which is not one of the objects"),
        ({"subjects": ["dog"]}, "subjects name 'dog', which is not one of the objects"),
        ({"nouns": {"dog": {}}}, "nouns name 'dog', which is not one of the objects"),
        ({"groups": []}, "groups: .*at least 1"),
        ({"groups": [CARRYING, CARRYING]}, "groups name the group 'carrying' twice"),
        ({"groups": [CARRYING, {**PLACING, "predicates": ["lifts"]}]}, "groups name the predicate 'lifts' twice"),
        ({"groups": [{**CARRYING, "name": "Two Words"}]}, "groups.0.name: .*pattern"),
        ({"groups": [{**CARRYING, "phrases": {"eats": "eats"}}]}, "phrases of the group 'carrying' name 'eats'"),
        ({"groups": [{**CARRYING, "says_little": ["eats"]}]}, "says_little of the group 'carrying' name 'eats'"),
        ({"groups": [{**CARRYING, "weight": -1}]}, "groups.0.weight: .*greater than or equal to 0"),
        ({"groups": [{**CARRYING, "overshadowed_by": ["placing"]}]}, "overshadowed_by .* name 'placing'"),
        ({"groups": [{**CARRYING, "implied_by": {"lifts": ["eats"]}}]}, "implied_by .* name 'eats'"),
        ({"colour": "red"}, "colour: Unexpected keyword"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TYPE.validate_python(SMALL | changes)
    found = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in caught.value.errors()]
    assert any(re.search(message, text) for text in found), found


@pytest.mark.parametrize(
    ("predicate", "forward", "reverse"),
    [
        ("reaching_for", "is reaching for", "has {} reaching for them"),
        ("behind", "is behind", "has {} behind them"),
        ("next to", "is next to", "has {} next to them"),
        ("covered_by", "is covered by", "has {} covered by them"),
        ("taller than", "is taller than", "has {} taller than them"),
        ("rides", "rides", "has {} riding them"),
        ("hold", "holds", "has {} holding them"),
        ("carry", "carries", "has {} carrying them"),
        ("sit_on", "sits on", "has {} sitting on them"),
        ("bring", "brings", "has {} bringing them"),
        ("have", "has", "has {} having them"),
        ("not_looking_at", "is not looking at", "has {} not looking at them"),
        ("no_interaction", "has no interaction with", "has no interaction with"),
    ],
)
def test_a_predicate_without_words_of_its_own_still_reads_as_english(
    predicate: str, forward: str, reverse: str
) -> None:
    assert PredicateGroup(name="acting", predicates=(predicate,)).phrase(predicate) == forward
    reversed_ = PredicateGroup(name="acting", predicates=(predicate,), direction="object_to_subject")
    assert reversed_.phrase(predicate) == reverse


def test_words_of_a_group_come_before_those_made_of_names() -> None:
    group = PredicateGroup(name="acting", predicates=("lifting", "behind"), phrases={"lifting": "picks {} up"})
    assert (group.phrase("lifting"), group.phrase("behind")) == ("picks {} up", "is behind")


@pytest.mark.parametrize(
    ("label", "singular", "plural"),
    [
        ("person", "person", "people"),
        ("robot", "robot", "robots"),
        ("dining_table", "dining table", "dining tables"),
        ("mug/jar", "mug or jar", "mugs or jars"),
        ("cup/glass/bottle", "cup, glass or bottle", "cups, glasses or bottles"),
        ("berry", "berry", "berries"),
        ("policewoman", "policewoman", "policewomen"),
        ("Förderband", "Förderband", "Förderband"),
        ("/", "/", "/s"),
    ],
)
def test_a_label_without_a_noun_of_its_own_is_named_by_the_rules_of_english(
    label: str, singular: str, plural: str
) -> None:
    vocabulary = TYPE.validate_python({**SMALL, "objects": [label], "subjects": [label]})
    assert vocabulary.noun(label) == Noun(singular, plural)


def test_what_a_noun_leaves_empty_follows_from_the_rest() -> None:
    assert ACTION_GENOME.noun("clothes") == Noun("clothes", "sets of clothes", "set of clothes", is_plural=True)
    assert ACTION_GENOME.noun("cup/glass/bottle") == Noun("cup or bottle", "cups or bottles")

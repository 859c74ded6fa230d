"""Names, orders and groups that every stored index depends on."""

from models.graph.vocabulary import (
    GROUP_OF_PREDICATE,
    GROUP_SLICE,
    GROUPS,
    OBJECT_CLASSES,
    OBJECT_INDEX,
    PREDICATE_INDEX,
    PREDICATES,
    PREDICATES_OF_GROUP,
    RAW_OBJECT_CLASSES,
    RAW_PREDICATES,
    runs_from_object,
)


def test_there_are_36_classes_and_26_predicates_without_repetition() -> None:
    assert len(OBJECT_CLASSES) == len(set(OBJECT_CLASSES)) == 36
    assert len(PREDICATES) == len(set(PREDICATES)) == 26
    assert [len(PREDICATES_OF_GROUP[group]) for group in GROUPS] == [3, 6, 17]


def test_the_person_comes_first_and_the_things_are_in_alphabetical_order_as_on_disk() -> None:
    assert OBJECT_CLASSES[0] == "person"
    assert list(OBJECT_CLASSES[1:]) == sorted(OBJECT_CLASSES[1:])


def test_slices_cut_the_predicates_into_their_groups() -> None:
    for group in GROUPS:
        assert PREDICATES[GROUP_SLICE[group]] == PREDICATES_OF_GROUP[group]
    assert [GROUP_OF_PREDICATE[name] for name in ("unsure", "in", "writing_on")] == [
        "attention",
        "spatial",
        "contacting",
    ]


def test_indices_are_those_of_the_field() -> None:
    # Action Genome counts from 1 (0 is background): bag is 2, window 36.
    assert (OBJECT_INDEX["bag"] + 1, OBJECT_INDEX["window"] + 1) == (2, 36)
    assert (PREDICATE_INDEX["looking_at"], PREDICATE_INDEX["above"], PREDICATE_INDEX["writing_on"]) == (0, 3, 25)


def test_raw_names_are_spelt_as_in_the_annotation_files() -> None:
    assert RAW_OBJECT_CLASSES[OBJECT_INDEX["cup/glass/bottle"]] == "cupglassbottle"
    assert RAW_PREDICATES[PREDICATE_INDEX["have_it_on_the_back"]] == "haveitontheback"


def test_only_spatial_triplets_run_from_the_object_to_the_person() -> None:
    assert {name for name in PREDICATES if runs_from_object(name)} == set(PREDICATES_OF_GROUP["spatial"])

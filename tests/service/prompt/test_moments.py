"""Relations become events, and key moments are those that show most of them."""

from __future__ import annotations

from typing import Any

import pytest

from models.graph.scene_graph import Frame, Relation, SceneGraph
from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary
from service.prompt import key_moments
from service.prompt.moments import Appearances, Entity, Event, entities_of, events_of, spans_of
from tests.support.graphs import scene_graph
from tests.support.relations import frame, holds

Told = tuple[str, str, float, float]


def events(*relations: Relation, frames: list[Frame] | None = None) -> list[Event]:
    shown = [frame("person", "bag", "bed")] if frames is None else frames
    return events_of(relations, entities_of(Appearances.of(shown)), ACTION_GENOME)


def told(*relations: Relation, frames: list[Frame] | None = None) -> list[Told]:
    return [(one.predicate, one.thing.label, one.start, one.end) for one in events(*relations, frames=frames)]


def test_relations_with_a_short_gap_between_them_are_one_event() -> None:
    assert told(holds("holding", end=4.0), holds("holding", start=5.0, end=8.0)) == [("holding", "bag", 0.0, 8.0)]
    assert told(holds("holding", end=4.0), holds("holding", start=5.5, end=8.0)) == [
        ("holding", "bag", 0.0, 4.0),
        ("holding", "bag", 5.5, 8.0),
    ]


def test_scores_of_an_event_are_means_over_its_time() -> None:
    (event,) = events(
        holds("holding", end=3.0, score=0.8, relevance=0.4),
        holds("holding", start=3.5, end=4.5, score=0.4, relevance=0.8),
    )
    assert (event.score, event.relation_score) == pytest.approx((0.7, 0.5))


def test_a_thing_that_was_lost_and_found_again_is_one_thing() -> None:
    frames = [frame("person", "chair"), frame("person", "chair", index=1, first_id=3)]
    assert told(
        holds("sitting_on", 2, end=1.0), holds("sitting_on", 4, start=1.0, end=2.0, person=3), frames=frames
    ) == [("sitting_on", "chair", 0.0, 2.0)]


def test_two_things_that_are_there_together_are_two_entities() -> None:
    frames = [frame("person", "chair", "chair")]
    first, second = events(holds("sitting_on", 2), holds("sitting_on", 3, score=0.7), frames=frames)
    assert (first.thing, second.thing) == (Entity("chair", 1), Entity("chair", 2))


def test_the_place_of_a_thing_is_left_out_while_it_is_touched() -> None:
    assert told(holds("holding"), holds("in_front_of", score=0.9)) == [("holding", "bag", 0.0, 3.5)]
    assert told(holds("holding", end=1.0), holds("in_front_of", end=3.5)) == [
        ("in_front_of", "bag", 0.0, 3.5),
        ("holding", "bag", 0.0, 1.0),
    ]
    assert told(holds("looking_at"), holds("behind")) == [
        ("looking_at", "bag", 0.0, 3.5),
        ("behind", "bag", 0.0, 3.5),
    ]


def test_predicates_that_say_little_are_told_only_where_there_is_nothing_else() -> None:
    assert told(holds("behind", 3, score=0.1), holds("not_looking_at", score=1.0)) == [("behind", "bed", 0.0, 3.5)]
    assert told(holds("not_contacting", score=0.9), holds("unsure", 3)) == [
        ("not_contacting", "bag", 0.0, 3.5),
        ("unsure", "bed", 0.0, 3.5),
    ]


def test_events_far_below_the_best_score_are_left_out() -> None:
    assert told(holds("holding", score=0.9), holds("lying_on", 3, score=0.44)) == [("holding", "bag", 0.0, 3.5)]
    assert len(told(holds("holding", score=0.8), holds("lying_on", 3, score=0.44))) == 2


def test_a_weak_touch_under_a_strong_denial_is_not_told() -> None:
    assert told(holds("not_contacting", score=0.8), holds("touching", score=0.5), holds("behind", score=0.6)) == [
        ("behind", "bag", 0.0, 3.5)
    ]


def test_a_predicate_far_behind_the_best_of_its_group_and_time_is_not_told() -> None:
    relations = [holds("holding", score=0.8), holds("eating", score=0.3), holds("touching", score=0.5)]
    assert [predicate for predicate, *_ in told(*relations)] == ["holding", "touching"]


def test_the_more_a_pair_matters_the_earlier_it_is_told() -> None:
    def first(bag: float | None, bed: float | None) -> str:
        relations = [holds("holding", 2, score=0.6, relevance=bag), holds("lying_on", 3, score=0.7, relevance=bed)]
        return told(*relations)[0][1]

    assert first(bag=0.9, bed=0.2) == "bag"
    assert first(bag=0.2, bed=0.9) == "bed"
    assert first(bag=None, bed=None) == "bed"


def test_contacts_come_before_looks_and_looks_before_places() -> None:
    frames = [frame("person", "bag", "bed", "door")]
    relations = [holds("behind", 4), holds("looking_at", 3), holds("holding", 2)]
    assert [predicate for predicate, *_ in told(*relations, frames=frames)] == ["holding", "looking_at", "behind"]


def test_a_relation_without_length_is_an_event_too() -> None:
    assert told(holds("holding", start=1.0, end=1.0)) == [("holding", "bag", 1.0, 1.0)]


def graph(*relations: Relation) -> SceneGraph:
    """Ten seconds, two frames a second, in which a person and four things are always seen."""
    frames = [frame("person", "cup/glass/bottle", "chair", "bed", "door", index=index) for index in range(20)]
    return scene_graph(frames, size=(9, 9), relations=relations, duration=10.0, fps=2.0)


def test_moments_show_the_most_telling_events_and_nothing_twice() -> None:
    shown = graph(
        holds("sitting_on", 3, 0.0, 10.0, score=0.9),
        holds("holding", 2, 1.0, 3.0),
        holds("behind", 5, 4.0, 5.0, score=0.5),
        holds("lying_on", 4, 8.0, 9.5),
    )
    assert key_moments(shown, 0) == []
    assert key_moments(shown, 1) == [2.0]
    assert key_moments(shown, 2) == [2.0, 8.5]
    assert key_moments(shown, 9) == [2.0, 4.5, 8.5]


def test_relation_scores_decide_which_moment_is_shown() -> None:
    def first(cup: float, bed: float) -> list[float]:
        relations = [holds("holding", 2, 1.0, 3.0, relevance=cup), holds("lying_on", 4, 8.0, 10.0, relevance=bed)]
        return key_moments(graph(*relations), 1)

    assert first(cup=0.9, bed=0.1) == [2.0]
    assert first(cup=0.1, bed=0.9) == [9.0]


def test_a_graph_without_relations_has_no_telling_moment() -> None:
    assert key_moments(graph(), 4) == []


def test_weights_and_silence_of_predicates_are_those_of_the_vocabulary() -> None:
    def events(**handling: Any) -> list[str]:
        vocabulary = Vocabulary(
            objects=("crate", "robot"),
            subjects=("robot",),
            groups=(
                PredicateGroup(name="placing", predicates=("near",), direction="object_to_subject"),
                PredicateGroup(name="handling", predicates=("lifts", "ignores"), **handling),
            ),
        )
        relations = [
            Relation(subject=subject, predicate=predicate, object=thing, start=0, end=3, score=0.8, relation_score=None)
            for subject, predicate, thing in ((2, "near", 1), (1, "lifts", 2), (1, "ignores", 2))
        ]
        entities = {1: Entity("robot", 1), 2: Entity("crate", 1)}
        found = events_of(relations, entities, vocabulary)
        assert {(event.subject.label, event.thing.label) for event in found} == {("robot", "crate")}
        return [event.predicate for event in found]

    assert events() == ["near", "lifts", "ignores"]
    assert events(weight=2) == ["lifts", "ignores", "near"]
    assert events(weight=2, says_little=("ignores",)) == ["lifts", "near"]
    assert events(overshadowed_by=("placing",)) == ["near"]


def test_labels_times_and_scores_are_gathered_frame_by_frame() -> None:
    assert Appearances.of([frame("person"), frame(index=1), frame("person", "bag", index=2)]) == Appearances(
        labels={1: "person", 2: "bag"},
        first={1: 0, 2: 2},
        last={1: 2, 2: 2},
        seen={1: (0.0, 1.0), 2: (1.0, 1.0)},
        scores={"person": 1.8, "bag": 0.9},
        frame_count=3,
        sampled=(0.0, 1.0),
    )


def test_an_entity_is_there_until_the_frame_after_the_last_that_shows_it() -> None:
    shown = {0: 1, 1: 1, 3: 2, 9: 3}
    frames = [frame(*["person"] * (index in shown), index=index, first_id=shown.get(index, 0)) for index in range(12)]
    appearances = Appearances.of(frames)
    spans = spans_of(appearances, entities_of(appearances))
    assert spans == {Entity("person", 1): [(0.0, 2.0), (4.5, 5.0)]}, "a gap of half a second is bridged"


def test_objects_of_one_label_that_never_appear_together_are_one_entity() -> None:
    frames = [frame("person", "chair"), frame("person", "chair", "chair", index=1, first_id=3)]
    assert entities_of(Appearances.of(frames)) == {
        1: Entity("person", 1),
        2: Entity("chair", 1),
        3: Entity("person", 1),
        4: Entity("chair", 1),
        5: Entity("chair", 2),
    }

"""Relations: what holds from when to when."""

import pytest

from models.graph.scene_graph import Relation

CHAIR_BOX = (0.6, 0.5, 0.8, 0.95)


def relations(stage, said: list[dict[str, float] | None], duration: float | None = None, **rest) -> list[Relation]:
    """Relations of a person to one chair, given the predicates of every frame, half a second apart."""
    script = [[] if frame is None else [stage.say("chair", CHAIR_BOX, **(frame | rest))] for frame in said]
    return stage.build(stage.predict(script), top_k=9, duration=duration)[1]


def spans(found: list[Relation]) -> list[tuple[str, float, float]]:
    return [(relation.predicate, relation.start, relation.end) for relation in found]


SITS, STANDS = {"sitting_on": 0.8}, {"standing_on": 0.8}


def test_consecutive_frames_are_one_relation_to_the_end_of_the_last(stage) -> None:
    assert spans(relations(stage, [None, SITS, SITS, SITS, None])) == [("sitting_on", 0.5, 2.0)]


def test_a_change_is_two_relations(stage) -> None:
    found = relations(stage, [SITS, SITS, STANDS, STANDS])
    assert spans(found) == [("sitting_on", 0.0, 1.0), ("standing_on", 1.0, 2.0)]


def test_one_missing_sample_is_bridged_and_two_are_not(stage) -> None:
    assert spans(relations(stage, [SITS, None, SITS])) == [("sitting_on", 0.0, 1.5)]
    assert spans(relations(stage, [SITS, None, None, SITS])) == [("sitting_on", 0.0, 0.5), ("sitting_on", 1.5, 2.0)]


def test_a_flicker_between_equal_neighbours_is_bridged_and_still_told(stage) -> None:
    found = relations(stage, [SITS, SITS, STANDS, SITS, SITS])
    assert spans(found) == [("sitting_on", 0.0, 2.5), ("standing_on", 1.0, 1.5)]


def test_scores_are_means_of_the_frames_that_show_it(stage) -> None:
    said = [{"sitting_on": 0.4}, None, {"sitting_on": 0.8}]
    (found,) = relations(stage, said, score=0.5, person_score=1.0, relation=0.5)
    assert found.score == pytest.approx(0.5 * 0.6 * 0.5, abs=1e-4)
    assert found.relation_score == 0.5


def test_no_relation_lasts_beyond_the_video(stage) -> None:
    assert spans(relations(stage, [SITS, SITS], duration=0.8)) == [("sitting_on", 0.0, 0.8)]


def test_a_relation_never_ends_before_it_starts_when_the_stated_duration_is_too_short(stage) -> None:
    assert spans(relations(stage, [None, None, SITS], duration=0.8)) == [("sitting_on", 1.0, 1.0)]


def test_a_relation_of_a_single_frame_has_no_length(stage) -> None:
    assert spans(relations(stage, [SITS])) == [("sitting_on", 0.0, 0.0)]


def test_spatial_relations_run_from_the_thing_to_the_person(stage) -> None:
    (found,) = relations(stage, [{"behind": 0.7}] * 2)
    assert (found.subject, found.object) == (2, 1)


def test_relations_are_sorted_by_start_then_score(stage) -> None:
    found = relations(stage, [None, {"behind": 0.6, "sitting_on": 0.7}, {"behind": 0.6, "looking_at": 0.9}])
    assert [relation.predicate for relation in found] == ["sitting_on", "behind", "looking_at"]

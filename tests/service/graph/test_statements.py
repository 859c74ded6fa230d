"""Each setting of a bundle's `statements` mends one kind of mistake between detections and statements."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from models.graph.bundle import Statements, Thresholds
from models.graph.scene_graph import Frame, Relation

CUP, CHAIR, FAR_CHAIR = (0.45, 0.4, 0.5, 0.5), (0.6, 0.5, 0.8, 0.95), (0.02, 0.5, 0.2, 0.95)
LEFT, RIGHT = (0.05, 0.1, 0.3, 0.95), (0.65, 0.1, 0.95, 0.95)


def build(stage, script, interval: float = 0.2, **settings: Any) -> tuple[list[Frame], list[Relation]]:
    """The graph of a script, one fifth of a second from frame to frame, by these settings."""
    options = {
        name: settings.pop(name) for name in ("constraint", "top_k", "min_score", "thresholds") if name in settings
    }
    return stage.build(stage.predict(script), interval=interval, statements=Statements(**settings), **options)


def shown(frames: list[Frame]) -> list[list[str]]:
    """Labels of every frame but that of the person, in order of the alphabet."""
    return [sorted(thing.label for thing in frame.objects if thing.label != "person") for frame in frames]


def best_contacts(frames: list[Frame]) -> list[str]:
    return [next(each.predicate for each in frame.triplets if each.group == "contacting") for frame in frames]


def test_a_thing_must_be_seen_as_often_as_the_bundle_says(stage) -> None:
    chair, book = stage.say("chair", CHAIR), stage.say("book", CUP, holding=0.9)
    script = [[chair], [chair, book], [chair], [chair, book], [chair], [chair]]
    assert shown(build(stage, script)[0])[1] == ["book", "chair"]
    assert shown(build(stage, script, least_sightings=2)[0])[1] == ["book", "chair"]
    frames, relations = build(stage, script, least_sightings=3)
    assert shown(frames) == [["chair"]] * 6
    assert relations == []


@pytest.mark.parametrize(("interval", "shown_books"), [(0.2, 0), (0.5, 3)])
def test_a_thing_must_be_seen_for_as_long_as_the_bundle_says(stage, interval: float, shown_books: int) -> None:
    chair, book = stage.say("chair", CHAIR), stage.say("book", CUP, holding=0.9)
    script = [[chair, book] if t in (1, 3, 4) else [chair] for t in range(10)]
    frames, _ = build(stage, script, interval=interval, least_seconds=1.5)
    assert [len(things) for things in shown(frames)].count(2) == shown_books


def test_a_sure_thing_need_not_be_seen_for_long(stage) -> None:
    chair = stage.say("chair", CHAIR)
    passing = [chair, stage.say("book", CUP, score=0.5, touching=0.9)]
    script = [passing if t in (3, 4, 5) else [chair] for t in range(20)]
    strict = {"least_sightings": 3, "least_seconds": 2.0}
    assert not any("book" in things for things in shown(build(stage, script, **strict)[0]))
    frames, _ = build(stage, script, **strict, sure_thing_score=0.45)
    assert ["book" in things for things in shown(frames)] == [t in (3, 4, 5) for t in range(20)]
    assert not any("book" in things for things in shown(build(stage, script, **strict, sure_thing_score=0.6)[0]))
    twice = [passing if t in (3, 4) else [chair] for t in range(20)]
    assert not any("book" in things for things in shown(build(stage, twice, **strict, sure_thing_score=0.45)[0]))


def test_no_thing_needs_to_be_seen_in_more_than_half_of_the_frames(stage) -> None:
    chair, book = stage.say("chair", CHAIR), stage.say("book", CUP, holding=0.9)
    script = [[chair, book] if t < 4 else [chair] for t in range(8)]
    assert shown(build(stage, script, least_sightings=9, least_seconds=60)[0])[0] == ["book", "chair"]
    assert shown(build(stage, script[1:], least_sightings=9)[0])[0] == ["book", "chair"]
    assert shown(build(stage, script[2:], least_sightings=9)[0])[0] == ["chair"]


def test_a_short_video_shows_things_that_could_not_be_seen_often(stage) -> None:
    assert shown(build(stage, [[stage.say("chair", CHAIR)]] * 2, least_sightings=3)[0]) == [["chair"]] * 2


def test_a_thing_must_be_sure_in_one_frame_at_least(stage) -> None:
    scores = [0.3, 0.3, 0.6, 0.3, 0.3]
    script = [[stage.say("chair", CHAIR, score=score), stage.say("book", CUP, score=0.35)] for score in scores]
    assert shown(build(stage, script)[0]) == [["book", "chair"]] * 5
    assert shown(build(stage, script, least_best_score=0.5)[0]) == [["chair"]] * 5


def test_two_classes_on_nearly_one_box_are_the_surer_one(stage) -> None:
    wider = (0.58, 0.5, 0.82, 0.98)  # IoU 0.78
    script = [[stage.say("sofa/couch", CHAIR, score=0.6), stage.say("chair", wider)]] * 6
    assert shown(build(stage, script)[0]) == [["chair", "sofa/couch"]] * 6
    assert shown(build(stage, script, rival_iou=0.7)[0]) == [["chair"]] * 6


def test_a_thing_on_the_box_of_a_surer_subject_is_that_subject(stage) -> None:
    person = (0.3, 0.2, 0.6, 0.95)
    taken_for = stage.say("television", (0.31, 0.22, 0.6, 0.95), person, score=0.4, touching=0.9)  # IoU 0.94
    script = [[taken_for, stage.say("chair", CHAIR, person, sitting_on=0.9)]] * 6
    assert shown(build(stage, script)[0]) == [["chair", "television"]] * 6
    assert shown(build(stage, script, rival_subject_iou=0.7)[0]) == [["chair"]] * 6
    assert shown(build(stage, script, rival_subject_iou=0.95)[0]) == [["chair", "television"]] * 6


def test_a_thing_that_is_surer_than_the_subject_on_its_box_stays(stage) -> None:
    bed, sleeper = (0.3, 0.2, 0.6, 0.95), (0.31, 0.22, 0.6, 0.95)
    script = [[stage.say("bed", bed, sleeper, score=0.9, person_score=0.8, lying_on=0.9)]] * 6
    assert shown(build(stage, script, rival_subject_iou=0.7)[0]) == [["bed"]] * 6


def test_a_part_of_a_thing_of_its_class_is_no_second_thing(stage) -> None:
    seat = stage.say("chair", (0.6, 0.75, 0.75, 0.95), score=0.5, sitting_on=0.8)
    script = [[stage.say("chair", CHAIR, touching=0.3), seat]] * 6
    assert shown(build(stage, script)[0]) == [["chair", "chair"]] * 6
    frames, relations = build(stage, script, contained_share=0.8)
    assert shown(frames) == [["chair"]] * 6
    assert {relation.object for relation in relations} == {2}


def test_a_child_in_front_of_an_adult_is_a_second_person_where_the_detector_makes_no_parts(stage) -> None:
    child = (0.35, 0.55, 0.45, 0.9)
    script = [[stage.say("chair", CHAIR, touching=0.9), stage.say("book", CUP, child, holding=0.9)]] * 6
    people = {
        share: sum(
            thing.label == "person" for thing in build(stage, script, contained_subject_share=share)[0][0].objects
        )
        for share in (0.85, 1.0)
    }
    assert people == {0.85: 1, 1.0: 2}


def test_things_of_two_classes_may_lie_within_each_other(stage) -> None:
    script = [[stage.say("table", CHAIR), stage.say("book", (0.65, 0.6, 0.75, 0.7))]] * 6
    assert shown(build(stage, script, contained_share=0.8)[0]) == [["book", "table"]] * 6


@pytest.mark.parametrize(("longest_gap", "ids"), [(2.0, {2, 4}), (4.0, {2})])
def test_a_thing_keeps_its_id_over_as_long_a_gap_as_the_bundle_says(stage, longest_gap: float, ids: set[int]) -> None:
    seen = [stage.say("chair", CHAIR)]
    frames, _ = build(stage, [*[seen] * 3, *[[]] * 14, *[seen] * 3], longest_gap=longest_gap)
    assert {thing.id for frame in frames for thing in frame.objects if thing.label == "chair"} == ids


def test_a_person_who_comes_back_after_a_long_gap_is_a_new_one_all_the_same(stage) -> None:
    seen = [stage.say("chair", CHAIR)]
    frames, _ = build(stage, [*[seen] * 3, *[[]] * 14, *[seen] * 3], longest_gap=4)
    assert {thing.id for frame in frames for thing in frame.objects if thing.label == "person"} == {1, 3}


FLICKER = [
    {"sitting_on": 0.7, "touching": 0.4} if t % 3 else {"sitting_on": 0.4, "touching": 0.7} for t in range(15)
]  # fmt: skip


def test_a_predicate_that_flickers_holds_throughout(stage) -> None:
    script = [[stage.say("chair", CHAIR, **said)] for said in FLICKER]
    assert set(best_contacts(build(stage, script)[0])) == {"sitting_on", "touching"}
    frames, relations = build(stage, script, smoothing_seconds=0.8)
    assert best_contacts(frames) == ["sitting_on"] * 15
    (relation,) = [relation for relation in relations if relation.predicate == "sitting_on"]
    assert (relation.start, relation.end) == pytest.approx((0.0, 3.0))


def test_a_smoothed_score_is_the_mean_of_the_window(stage) -> None:
    script = [[stage.say("chair", CHAIR, touching=score, relation=score)] for score in (0.2, 0.8, 0.5, 0.8, 0.2)]
    frames, _ = build(stage, script, smoothing_seconds=0.4)
    means = [0.5, 0.5, 0.7, 0.5, 0.5]
    assert [frame.triplets[0].predicate_score for frame in frames] == pytest.approx(means, abs=1e-4)
    assert [frame.triplets[0].relation_score for frame in frames] == pytest.approx(means, abs=1e-4)


def test_a_change_that_lasts_survives_smoothing(stage) -> None:
    script = [[stage.say("chair", CHAIR, **{"sitting_on" if t < 8 else "standing_on": 0.8})] for t in range(16)]
    assert best_contacts(build(stage, script, smoothing_seconds=0.8)[0]) == ["sitting_on"] * 8 + ["standing_on"] * 8


def test_pairs_of_other_people_and_things_are_not_averaged_together(stage) -> None:
    script = [
        [
            stage.say("chair", FAR_CHAIR, LEFT, sitting_on=0.9),
            stage.say("chair", FAR_CHAIR, RIGHT, not_contacting=0.9),
            stage.say("chair", CHAIR, RIGHT, leaning_on=0.9),
        ]
    ] * 6
    frames, _ = build(stage, script, smoothing_seconds=2.0)
    for frame in frames:
        assert sorted(each.predicate for each in frame.triplets) == ["leaning_on", "not_contacting", "sitting_on"]
        assert {each.predicate_score for each in frame.triplets} == {0.9}


def test_a_frame_that_misses_the_pair_counts_neither_way(stage) -> None:
    seen = [stage.say("chair", CHAIR, touching=0.6)]
    frames, _ = build(stage, [seen, [], seen, seen, [], seen], smoothing_seconds=1.0)
    assert [[each.predicate_score for each in frame.triplets] for frame in frames] == [
        [0.6],
        [],
        [0.6],
        [0.6],
        [],
        [0.6],
    ]


def test_a_score_that_is_not_a_number_does_not_spread(stage) -> None:
    script = [[stage.say("chair", CHAIR, touching=np.nan if t == 2 else 0.6)] for t in range(5)]
    frames, _ = build(stage, script, smoothing_seconds=0.4)
    assert all(np.isfinite(each.score) for frame in frames for each in frame.triplets)
    assert len(frames[1].triplets) == len(frames[3].triplets) == 1


def test_gaps_up_to_the_bridged_seconds_do_not_end_a_relation(stage) -> None:
    seen = [stage.say("chair", CHAIR, sitting_on=0.8)]
    script = [seen, *[[]] * 3, seen, *[[]] * 6, seen]

    def spans(**settings: float) -> list[tuple[float, float]]:
        return [(round(each.start, 3), round(each.end, 3)) for each in build(stage, script, **settings)[1]]

    assert spans() == [(0.0, 0.2), (0.8, 1.0), (2.2, 2.4)]
    assert spans(bridged_seconds=0.8) == [(0.0, 1.0), (2.2, 2.4)]


def test_what_is_not_stated_for_long_enough_is_not_stated_at_all(stage) -> None:
    script = [[stage.say("chair", CHAIR, **{"touching" if t in (4, 9) else "sitting_on": 0.8})] for t in range(12)]
    for settings, expected in (
        ({}, {"sitting_on", "touching"}),
        ({"least_stated_seconds": 0.4}, {"sitting_on", "touching"}),  # both frames together
        ({"least_stated_seconds": 0.6}, {"sitting_on"}),
    ):
        frames, relations = build(stage, script, **settings)
        assert {each.predicate for frame in frames for each in frame.triplets} == expected
        assert {each.predicate for each in relations} == expected


def test_frames_that_lie_a_little_closer_than_asked_state_as_much(stage) -> None:
    script = [[stage.say("chair", CHAIR, **{"touching" if t in (4, 5) else "sitting_on": 0.8})] for t in range(12)]
    for interval, expected in ((0.48, {"touching", "sitting_on"}), (0.3, {"sitting_on"})):
        _, relations = build(stage, script, interval=interval, least_stated_seconds=1.0)
        assert {each.predicate for each in relations} == expected


def test_what_holds_for_half_of_a_short_video_is_stated(stage) -> None:
    script = [[stage.say("chair", CHAIR, touching=0.8)]] * 2 + [[stage.say("chair", CHAIR, sitting_on=0.8)]] * 3
    _, relations = build(stage, script, least_stated_seconds=30)
    assert {each.predicate for each in relations} == {"touching", "sitting_on"}


SEEN_AND_LEFT_ALONE = {"not_contacting": 0.9, "not_looking_at": 0.8, "on_the_side_of": 0.5}


def test_what_says_little_ranks_low_in_triplets_and_relations_but_stays(stage) -> None:
    script = [[stage.say("table", CHAIR, **SEEN_AND_LEFT_ALONE), stage.say("book", CUP, holding=0.6)]] * 6
    (frame, *_), relations = build(stage, script)
    assert [each.predicate for each in frame.triplets][:2] == ["not_contacting", "not_looking_at"]
    (frame, *_), relations = build(stage, script, little_weight=0.25)
    expected = ["holding", "on_the_side_of", "not_contacting", "not_looking_at"]
    assert [each.predicate for each in frame.triplets] == expected
    assert [each.predicate for each in relations] == expected
    denial = frame.triplets[2]
    assert denial.predicate_score == pytest.approx(0.9)
    assert denial.score == pytest.approx(0.25 * 0.95 * 0.9 * 0.9, abs=1e-4)


def test_a_touch_that_scores_less_than_its_denial_ranks_below_it(stage) -> None:
    said = {"not_contacting": 0.7, "touching": 0.6, "looking_at": 0.4}
    (frame, *_), _ = build(stage, [[stage.say("chair", CHAIR, **said)]] * 6, constraint="no", little_weight=0.25)
    assert [each.predicate for each in frame.triplets] == ["looking_at", "not_contacting", "touching"]


def test_a_least_score_holds_for_what_says_little_too(stage) -> None:
    script = [[stage.say("table", CHAIR, **SEEN_AND_LEFT_ALONE)]] * 6
    (frame, *_), _ = build(stage, script, little_weight=0.25, min_score=0.3)
    assert [each.predicate for each in frame.triplets] == ["on_the_side_of"]


def test_a_doubtful_triplet_is_left_out_unless_its_predicate_says_little(stage) -> None:
    script = [[stage.say("table", CHAIR, **SEEN_AND_LEFT_ALONE), stage.say("book", CUP, holding=0.35)]] * 6
    before = {each.predicate for each in build(stage, script, little_weight=0.25)[0][0].triplets}
    assert {"holding", "not_contacting", "not_looking_at"} <= before
    thresholds = Thresholds(object_score=0.2, predicate_score=0.2, duplicate_iou=0.6, triplet_score=0.4)
    (frame, *_), _ = build(stage, script, little_weight=0.25, thresholds=thresholds)
    left = {each.predicate for each in frame.triplets}
    assert left == {"on_the_side_of", "not_contacting", "not_looking_at"}, "these are hardly worth telling, but sure"


ALL = Statements(
    least_sightings=2,
    least_best_score=0.3,
    rival_iou=0.6,
    contained_share=0.8,
    longest_gap=3,
    smoothing_seconds=1.1,
    bridged_seconds=1,
    least_stated_seconds=0.6,
    little_weight=0.3,
)


def test_how_a_video_is_cut_changes_nothing_with_all_settings(stage) -> None:
    rng = np.random.default_rng(7)

    def frame(t: int) -> list[object]:
        said = {"touching": rng.random(), "not_contacting": rng.random(), "looking_at": rng.random()}
        chair = stage.say("chair", stage.moved(CHAIR, 0.001 * t), relation=rng.random(), **said)
        cups = [
            stage.say("cup/glass/bottle", stage.moved(CUP, 0.3 * rng.random()), RIGHT, holding=rng.random())
            for _ in range(rng.integers(0, 4))
        ]
        return [chair, *cups] if t % 7 else []

    predictions = stage.predict([frame(t) for t in range(120)])
    options = {"interval": 0.2, "statements": ALL, "top_k": 5, "duration": 23.9}
    whole = stage.build(predictions, **options)
    assert len(whole[1]) > 20
    for cuts in (range(4, 120, 4), range(1, 120), (1, 33, 70, 71)):
        assert stage.build(predictions, cuts, **options) == whole


def test_smoothing_holds_a_few_seconds_of_pairs_in_memory(stage) -> None:
    one = stage.predict([[stage.say("chair", CHAIR, touching=0.9)]] * 32, slots=64)
    peaks = []
    for clips in (8, 32):
        builder = stage.builder(statements=Statements(smoothing_seconds=1.0))
        tracemalloc.start()
        for clip in range(clips):
            builder.add(one, (32 * clip + np.arange(32)) * 0.2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(builder.finish().triplets) == 32 * clips
    assert peaks[1] < 1.1 * peaks[0]

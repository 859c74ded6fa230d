"""`GraphBuilder` makes people, things and triplets of a video within its limits, however it comes in clips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.graph.bundle import Scoring, Statements, Thresholds
from models.graph.predictions import PairPredictions
from models.graph.scene_graph import Frame
from models.graph.vocabulary import ACTION_GENOME
from service.graph import GraphBuilder

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT = (0.05, 0.1, 0.3, 0.95), (0.65, 0.1, 0.95, 0.95)
CUP_BOX, CHAIR_BOX = (0.45, 0.4, 0.5, 0.5), (0.6, 0.5, 0.8, 0.95)


def labels(frame: Frame) -> list[str]:
    return [thing.label for thing in frame.objects]


def predicates(frame: Frame) -> list[str]:
    return [triplet.predicate for triplet in frame.triplets]


def test_one_pair_gives_two_objects_and_one_triplet_per_group(stage) -> None:
    said = stage.say("cup/glass/bottle", CUP_BOX, looking_at=0.7, in_front_of=0.8, holding=0.9)
    (frame,), _ = stage.build(stage.predict([[said]]))
    person, cup = frame.objects
    assert (person.id, person.label, person.score) == (1, "person", 0.95)
    assert (cup.id, cup.label, cup.score) == (2, "cup/glass/bottle", 0.9)
    assert cup.box == pytest.approx((288, 144, 320, 180), abs=0.1)
    assert [(t.subject, t.predicate, t.object, t.group) for t in frame.triplets] == [
        (1, "holding", 2, "contacting"),
        (2, "in_front_of", 1, "spatial"),
        (1, "looking_at", 2, "attention"),
    ]


def test_the_score_is_the_product_of_its_parts(stage) -> None:
    plain, scored = (
        stage.say("chair", CHAIR_BOX, score=0.8, person_score=0.9, touching=0.5, relation=relation)
        for relation in (None, 0.6)
    )
    (frame,), _ = stage.build(stage.predict([[plain]]))
    assert frame.triplets[0].score == pytest.approx(0.8 * 0.9 * 0.5, abs=1e-4)
    assert frame.triplets[0].relation_score is None
    (frame,), relations = stage.build(stage.predict([[scored]]))
    assert frame.triplets[0].score == pytest.approx(0.8 * 0.9 * 0.5 * 0.6, abs=1e-4)
    assert frame.triplets[0].relation_score == relations[0].relation_score == 0.6


def test_the_relation_score_decides_which_triplet_comes_first(stage) -> None:
    table = (0.0, 0.6, 0.3, 0.9)
    script = [
        stage.say("chair", CHAIR_BOX, touching=0.9, relation=0.3),
        stage.say("table", table, touching=0.6, relation=0.8),
    ]
    (frame,), _ = stage.build(stage.predict([script]))
    assert [triplet.relation_score for triplet in frame.triplets] == [0.8, 0.3]


def test_a_pair_under_the_relation_threshold_has_no_triplets_but_its_objects_are_shown(stage) -> None:
    table = (0.0, 0.6, 0.3, 0.9)
    script = [
        stage.say("chair", CHAIR_BOX, touching=0.9, relation=0.3),
        stage.say("table", table, touching=0.9, relation=0.5),
    ]
    thresholds = Thresholds(object_score=0.3, predicate_score=0.2, relation_score=0.5, duplicate_iou=0.6)
    (frame,), relations = stage.build(stage.predict([script]), thresholds=thresholds)
    assert sorted(labels(frame)) == ["chair", "person", "table"]
    assert [triplet.relation_score for triplet in frame.triplets] == [0.5]
    assert len(relations) == 1
    (frame,), _ = stage.build(stage.predict([[stage.say("chair", CHAIR_BOX, touching=0.9)]]), thresholds=thresholds)
    assert len(frame.triplets) == 1, "a model without relation scores has no pair under the threshold"


def test_every_triplet_carries_the_uncertainty_of_its_own_predicate(stage) -> None:
    doubts = {"looking_at": (0.1, 0.2), "behind": (-1e-9, 3.0), "touching": (0.3, 0.4)}
    said = stage.say("chair", CHAIR_BOX, looking_at=0.7, behind=0.8, touching=0.9, doubts=doubts)
    cup = stage.say("cup/glass/bottle", CUP_BOX, holding=0.6, doubts={"holding": (0.5, 0.6)})
    (frame,), _ = stage.build(stage.predict([[said, cup]]))
    found = {
        triplet.predicate: (triplet.uncertainty.epistemic, triplet.uncertainty.aleatoric) for triplet in frame.triplets
    }
    assert found == {"touching": (0.3, 0.4), "behind": (0, 3), "looking_at": (0.1, 0.2), "holding": (0.5, 0.6)}


def test_an_uncertainty_that_is_not_a_number_is_left_out(stage) -> None:
    said = stage.say("chair", CHAIR_BOX, touching=0.9, behind=0.8, doubts={"touching": (np.nan, 0.1), "behind": (1, 1)})
    (frame,), _ = stage.build(stage.predict([[said]]))
    assert [triplet.uncertainty is None for triplet in frame.triplets] == [True, False]


def test_near_duplicates_of_one_person_are_one_person_with_the_mean_box(stage) -> None:
    script = [
        stage.say("chair", CHAIR_BOX, touching=0.8),
        stage.say("cup/glass/bottle", CUP_BOX, stage.moved(stage.standing, 0.02), holding=0.9),
        stage.say("table", (0.0, 0.6, 0.3, 0.9), stage.moved(stage.standing, -0.02), in_front_of=0.9),
    ]
    (frame,), _ = stage.build(stage.predict([script]))
    assert labels(frame).count("person") == 1
    assert frame.objects[0].box == pytest.approx((192, 72, 320, 324), abs=0.1)
    assert {triplet.subject for triplet in frame.triplets if triplet.group == "contacting"} == {1}


def test_an_upper_body_is_part_of_its_person(stage) -> None:
    upper = (0.32, 0.2, 0.48, 0.45)
    script = [stage.say("chair", CHAIR_BOX, touching=0.8), stage.say("cup/glass/bottle", CUP_BOX, upper, holding=0.5)]
    (frame,), _ = stage.build(stage.predict([script]))
    assert labels(frame).count("person") == 1
    assert frame.objects[0].box == pytest.approx((192, 72, 320, 324), abs=0.1)


def test_two_people_apart_are_two_people_and_share_a_thing(stage) -> None:
    script = [
        stage.say("table", CUP_BOX, LEFT, touching=0.8),
        stage.say("table", stage.moved(CUP_BOX, 0.002), RIGHT, leaning_on=0.9, person_score=0.9),
    ]
    (frame,), _ = stage.build(stage.predict([script]))
    assert labels(frame) == ["person", "person", "table"]
    assert {(t.subject, t.predicate, t.object) for t in frame.triplets} == {(1, "touching", 3), (2, "leaning_on", 3)}


def test_of_two_slots_on_one_pair_the_better_one_is_shown(stage) -> None:
    script = [stage.say("chair", CHAIR_BOX, score=0.6, touching=0.9), stage.say("chair", CHAIR_BOX, sitting_on=0.8)]
    (frame,), _ = stage.build(stage.predict([script]))
    assert labels(frame) == ["person", "chair"]
    assert predicates(frame) == ["sitting_on"]


def test_two_chairs_side_by_side_are_two_objects(stage) -> None:
    script = [stage.say("chair", CHAIR_BOX), stage.say("chair", stage.moved(CHAIR_BOX, 0.1))]
    (frame,), _ = stage.build(stage.predict([script]))
    assert labels(frame) == ["person", "chair", "chair"]


def test_of_two_classes_on_one_box_the_better_one_is_kept(stage) -> None:
    script = [stage.say("chair", CHAIR_BOX, touching=0.9), stage.say("sofa/couch", CHAIR_BOX, score=0.6, touching=0.9)]
    (frame,), _ = stage.build(stage.predict([script]))
    assert labels(frame) == ["person", "chair"]
    assert len(frame.triplets) == 1


def test_a_pair_under_the_object_threshold_is_not_shown(stage) -> None:
    script = [stage.say("chair", CHAIR_BOX, score=0.4, person_score=0.45, touching=1.0)]
    (frame,), relations = stage.build(stage.predict([script]))
    assert frame.objects == frame.triplets == relations == []


def test_a_predicate_under_its_threshold_is_not_shown(stage) -> None:
    (frame,), _ = stage.build(stage.predict([[stage.say("chair", CHAIR_BOX, touching=0.19, behind=0.21)]]))
    assert predicates(frame) == ["behind"]


def test_min_score_is_on_the_final_score(stage) -> None:
    script = [[stage.say("chair", CHAIR_BOX, score=0.5, person_score=1.0, touching=0.9, behind=0.5)]]
    (frame,), _ = stage.build(stage.predict(script), min_score=0.3)
    assert predicates(frame) == ["touching"]


def test_top_k_keeps_the_best_of_every_frame(stage) -> None:
    frame = [stage.say("chair", CHAIR_BOX, touching=0.9, behind=0.8, looking_at=0.7)]
    frames, _ = stage.build(stage.predict([frame, frame]), top_k=2)
    assert [predicates(frame) for frame in frames] == [["touching", "behind"]] * 2
    frames, relations = stage.build(stage.predict([frame]), top_k=0)
    assert frames[0].triplets == relations == []


def test_with_constraint_shows_the_best_of_every_group(stage) -> None:
    said = stage.say(
        "chair", CHAIR_BOX, touching=0.9, holding=0.95, behind=0.4, beneath=0.5, unsure=0.3, looking_at=0.4
    )
    (frame,), _ = stage.build(stage.predict([[said]]))
    assert predicates(frame) == ["holding", "beneath", "looking_at"]


def test_semi_constraint_shows_the_best_attention_and_every_other_predicate_over_nine_tenths(stage) -> None:
    said = stage.say(
        "chair", CHAIR_BOX, touching=0.92, holding=0.95, wiping=0.9, behind=0.89, unsure=0.3, looking_at=0.4
    )
    (frame,), _ = stage.build(stage.predict([[said]]), constraint="semi")
    assert predicates(frame) == ["holding", "touching", "looking_at"]


def test_no_constraint_shows_everything_over_the_threshold(stage) -> None:
    said = stage.say(
        "chair", CHAIR_BOX, touching=0.92, holding=0.95, behind=0.3, unsure=0.25, looking_at=0.4, above=0.1
    )
    (frame,), _ = stage.build(stage.predict([[said]]), constraint="no")
    assert predicates(frame) == ["holding", "touching", "looking_at", "behind", "unsure"]


def test_boxes_are_clipped_to_the_picture(stage) -> None:
    script = [[stage.say("table", (-0.2, 0.5, 1.4, 1.3), (-0.1, -0.1, 0.4, 1.2), touching=0.9)]]
    (frame,), _ = stage.build(stage.predict(script))
    assert [thing.box for thing in frame.objects] == [(0, 0, 256, 360), (0, 180, 640, 360)]


@pytest.mark.parametrize(
    "box", [(1.1, 0.2, 1.4, 0.5), (0.5, 0.5, 0.5, 0.8), (0.5, 0.5, 0.4, 0.8), (0.5, 0.5, np.nan, 1)]
)
def test_a_box_outside_the_picture_or_without_area_is_dropped(stage, box) -> None:
    script = [[stage.say("table", box, touching=0.9), stage.say("chair", CHAIR_BOX, touching=0.9)]]
    (frame,), _ = stage.build(stage.predict(script))
    assert labels(frame) == ["person", "chair"]


def test_scores_just_over_one_are_clipped_to_one(stage) -> None:
    (frame,), _ = stage.build(stage.predict([[stage.say("chair", CHAIR_BOX, score=1.0000001, touching=1.0000001)]]))
    assert frame.objects[1].score == frame.triplets[0].predicate_score == 1


def test_masked_slots_are_ignored(stage) -> None:
    (frame,), _ = stage.build(stage.predict([[stage.say("chair", CHAIR_BOX, touching=0.9)]], slots=40))
    assert labels(frame) == ["person", "chair"]


def test_a_video_without_frames_gives_an_empty_graph(stage) -> None:
    assert stage.build(stage.predict([])) == ([], [])


def test_frames_without_detections_keep_their_index_and_time(stage) -> None:
    seen = [stage.say("chair", CHAIR_BOX, touching=0.9)]
    frames, _ = stage.build(stage.predict([[], seen, [], seen]), timestamps=[0.0, 0.5, 1.0, 1.5])
    assert [(frame.index, frame.timestamp, len(frame.objects)) for frame in frames] == [
        (0, 0.0, 0),
        (1, 0.5, 2),
        (2, 1.0, 0),
        (3, 1.5, 2),
    ]


def test_a_frame_may_show_sixty_things_of_one_class(stage) -> None:
    boxes = [
        (0.1 * column, 0.16 * row, 0.1 * column + 0.08, 0.16 * row + 0.1) for column in range(10) for row in range(6)
    ]
    frames, _ = stage.build(stage.predict([[stage.say("shoe", box, touching=0.8) for box in boxes]] * 5))
    assert all(len(frame.objects) == 61 for frame in frames)
    assert {thing.id for frame in frames for thing in frame.objects} == set(range(1, 62))


@pytest.fixture
def builder() -> GraphBuilder:
    thresholds = Thresholds(object_score=0.2, predicate_score=0.2, duplicate_iou=0.6)
    return GraphBuilder(
        vocabulary=ACTION_GENOME,
        width=8,
        height=8,
        thresholds=thresholds,
        scoring=Scoring(),
        statements=Statements(),
        min_score=0,
        top_k=1,
        constraint="with",
    )


def test_a_graph_needs_predictions(builder: GraphBuilder) -> None:
    with pytest.raises(ValueError, match="add those of at least one clip"):
        builder.finish()


def test_a_timestamp_is_needed_for_every_frame(stage, builder: GraphBuilder) -> None:
    with pytest.raises(ValueError, match=r"timestamps must have shape \(1,\)"):
        builder.add(stage.predict([[]]), [0.0, 1.0])


def test_arrays_may_be_reused_once_they_are_added(stage, builder: GraphBuilder) -> None:
    predictions, times = stage.predict([[stage.say("chair", CHAIR_BOX, touching=0.9)]]), np.zeros(1)
    builder.add(predictions, times)
    predictions.pair_mask[:] = False
    times[:] = 5.0
    (frame,) = builder.finish().frames()
    assert (frame.timestamp, len(frame.objects)) == (0.0, 2)


def with_area(boxes: np.ndarray) -> np.ndarray:
    """Most random boxes lie wrong way round and would be dropped; of these every corner is put right but the last."""
    corners = np.sort(boxes.reshape(*boxes.shape[:-1], 2, 2), axis=-2)
    return np.concatenate([corners.reshape(boxes.shape)[:, :-1], boxes[:, -1:]], axis=1)


def random_predictions(T: int, P: int) -> st.SearchStrategy[PairPredictions]:
    score = st.floats(0, 1, width=16)
    coordinate = st.floats(-0.25, 1.25, width=16)

    def array(*shape: int, elements: st.SearchStrategy[float] = score) -> st.SearchStrategy[np.ndarray]:
        return arrays(np.float32, shape, elements=elements)

    return st.builds(
        PairPredictions,
        arrays(np.bool_, (T, P), fill=st.just(True)),
        array(T, P, 4, elements=coordinate).map(with_area),
        array(T, P),
        array(T, P, 4, elements=coordinate).map(with_area),
        array(T, P, 36).map(lambda scores: scores * (np.arange(36) > 0)),
        array(T, P, 26),
        st.none() | array(T, P),
    )


def test_how_a_long_video_is_cut_changes_nothing_in_its_graph(stage) -> None:
    rng = np.random.default_rng(5)

    def frame(t: int) -> list[object]:
        doubts = {"touching": tuple(rng.random(2))}
        chair = stage.say(
            "chair", stage.moved(CHAIR_BOX, 0.001 * t), touching=rng.random(), doubts=doubts, relation=0.5
        )
        cups = [
            stage.say("cup/glass/bottle", stage.moved(CUP_BOX, 0.3 * rng.random()), RIGHT, holding=rng.random())
            for _ in range(rng.integers(0, 4))
        ]
        return [chair, *cups] if t % 7 else []

    predictions = stage.predict([frame(t) for t in range(150)])
    whole = stage.build(predictions, top_k=3, duration=74.9)
    assert len(whole[1]) > 20
    for cuts in (range(4, 150, 4), range(1, 150), (1, 70, 71)):
        assert stage.build(predictions, cuts, top_k=3, duration=74.9) == whole


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 12).flatmap(lambda T: st.tuples(random_predictions(T, 4), st.sets(st.integers(0, T)))),
    st.sampled_from(["with", "semi", "no"]),
)
def test_how_a_video_is_cut_changes_nothing_in_its_graph(stage, video, constraint) -> None:
    predictions, cuts = video
    options = {"constraint": constraint, "top_k": 5, "duration": 0.4 * len(predictions)}
    assert stage.build(predictions, cuts, **options) == stage.build(predictions, **options)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(0, 6), st.integers(0, 5)).flatmap(lambda shape: random_predictions(*shape)),
    st.sampled_from(["with", "semi", "no"]),
    st.integers(0, 12),
    st.floats(0, 1),
    st.floats(0, 0.5),
    st.floats(0.1, 2),
)
def test_every_graph_obeys_its_limits_order_and_directions(
    stage, predictions, constraint, top_k, min_score, threshold, interval
) -> None:
    thresholds = Thresholds(object_score=threshold, predicate_score=threshold, duplicate_iou=0.6)
    times = np.round(np.arange(len(predictions)) * interval, 4)
    duration = round(len(predictions) * interval, 4)
    frames, relations = stage.build(
        predictions,
        thresholds=thresholds,
        min_score=min_score,
        top_k=top_k,
        constraint=constraint,
        timestamps=times,
        duration=duration,
    )
    assert [frame.timestamp for frame in frames] == times.tolist()
    label_of: dict[int, str] = {}
    for frame in frames:
        things = {thing.id: thing for thing in frame.objects}
        assert len(things) == len(frame.objects)
        for thing in frame.objects:
            x1, y1, x2, y2 = thing.box
            assert 0 <= x1 < x2 <= WIDTH
            assert 0 <= y1 < y2 <= HEIGHT
            assert label_of.setdefault(thing.id, thing.label) == thing.label
        assert len(frame.triplets) <= top_k
        scores = [triplet.score for triplet in frame.triplets]
        assert scores == sorted(scores, reverse=True)
        assert min(scores, default=1) >= min_score - 1e-4
        for triplet in frame.triplets:
            person, thing = triplet.subject, triplet.object
            if ACTION_GENOME.runs_from_object(triplet.predicate):
                person, thing = thing, person
            assert things[person].label == "person"
            assert things[thing].label != "person"
        if constraint == "with":
            said = [(triplet.subject, triplet.object, triplet.group) for triplet in frame.triplets]
            assert len(said) == len(set(said))
            assert {group for _, _, group in said} <= set(ACTION_GENOME.group_names)
    for relation in relations:
        assert 0 <= relation.start <= relation.end <= duration
        assert relation.start in times
    keys = [(relation.start, -relation.score) for relation in relations]
    assert keys == sorted(keys)
    assert sorted(label_of) == list(range(1, len(label_of) + 1))

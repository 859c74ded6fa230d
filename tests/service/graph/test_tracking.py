"""One thing keeps one id and one label for as long as it is there."""

import numpy as np
import pytest

from models.graph.scene_graph import Frame

CUP_BOX, CHAIR_BOX, FAR_CHAIR_BOX = (0.45, 0.4, 0.5, 0.5), (0.6, 0.5, 0.8, 0.95), (0.02, 0.5, 0.2, 0.95)
LEFT, RIGHT = (0.05, 0.1, 0.3, 0.95), (0.65, 0.1, 0.95, 0.95)


def build(stage, script, interval: float = 0.5) -> list[Frame]:
    return stage.build(stage.predict(script), interval=interval)[0]


def ids(frames: list[Frame], label: str) -> list[list[int]]:
    return [[thing.id for thing in frame.objects if thing.label == label] for frame in frames]


def jittered(stage, box, seed: int):
    rng = np.random.default_rng(seed)
    return tuple(float(value) for value in np.array(box) + rng.normal(0, 0.006, 4))


def test_jitter_does_not_change_ids(stage) -> None:
    script = [
        [
            stage.say("chair", jittered(stage, CHAIR_BOX, 2 * t), jittered(stage, stage.standing, 3 * t)),
            stage.say("chair", jittered(stage, FAR_CHAIR_BOX, 5 * t), jittered(stage, stage.standing, 7 * t)),
        ][:: (-1) ** t]
        for t in range(12)
    ]
    frames = build(stage, script)
    assert ids(frames, "person") == [[1]] * 12
    where: dict[int, set[float]] = {thing.id: set() for thing in frames[0].objects}
    for frame in frames:
        for thing in frame.objects:
            where[thing.id].add(round(thing.box[0] / 640, 1))
    assert where == {1: {0.3}, 2: {0.6}, 3: {0.0}}


def test_a_moving_thing_keeps_its_id(stage) -> None:
    script = [[stage.say("cup/glass/bottle", stage.moved(CUP_BOX, -0.06 * t, 0.03 * t))] for t in range(7)]
    assert ids(build(stage, script), "cup/glass/bottle") == [[2]] * 7


def test_a_walking_person_keeps_the_id(stage) -> None:
    script = [[stage.say("chair", CHAIR_BOX, stage.moved(stage.standing, 0.08 * t - 0.3))] for t in range(10)]
    assert ids(build(stage, script), "person") == [[1]] * 10


def test_things_of_one_class_that_cross_keep_their_ids(stage) -> None:
    script = [
        [
            stage.say("shoe", (0.1 + 0.06 * t, 0.5, 0.2 + 0.06 * t, 0.6)),
            stage.say("shoe", (0.7 - 0.06 * t, 0.5, 0.8 - 0.06 * t, 0.6)),
        ]
        for t in range(11)
    ]
    frames = build(stage, script)
    start = {thing.box[0]: thing.id for thing in frames[0].objects if thing.label == "shoe"}
    end = {thing.box[0]: thing.id for thing in frames[-1].objects if thing.label == "shoe"}
    assert start[64.0] == end[448.0]
    assert start[448.0] == end[64.0]


def test_things_of_two_classes_that_cross_keep_ids_and_labels(stage) -> None:
    script = [
        [
            stage.say("shoe", (0.1 + 0.06 * t, 0.5, 0.2 + 0.06 * t, 0.6)),
            stage.say("book", (0.7 - 0.06 * t, 0.5, 0.8 - 0.06 * t, 0.6)),
        ]
        for t in range(11)
    ]
    frames = build(stage, script)
    assert len({thing.id for frame in frames for thing in frame.objects}) == 3
    for t, frame in enumerate(frames):  # halfway the shoe hides behind the book, or the other way round
        assert len(frame.objects) == (2 if t == 5 else 3)
    assert {thing.id: thing.label for thing in frames[0].objects} == {
        thing.id: thing.label for thing in frames[-1].objects
    }


def test_a_missed_second_does_not_change_the_id_and_invents_no_box(stage) -> None:
    seen = [stage.say("chair", CHAIR_BOX)]
    frames = build(stage, [seen, seen, [], [], [], seen])
    assert ids(frames, "chair") == [[2], [2], [], [], [], [2]]


def test_a_thing_that_returns_after_a_long_gap_gets_a_new_id(stage) -> None:
    seen = [stage.say("chair", CHAIR_BOX)]
    frames = build(stage, [seen, *([[]] * 5), seen])
    assert ids(frames, "chair") == [[2], *([[]] * 5), [4]]


def test_sparse_sampling_links_frames_and_one_missed_sample(stage) -> None:
    seen = [stage.say("chair", CHAIR_BOX)]
    assert ids(build(stage, [seen, seen, [], seen], interval=10.0), "chair") == [[2], [2], [], [2]]


def test_a_class_that_flickers_keeps_id_and_label(stage) -> None:
    said = ["sofa/couch", "sofa/couch", "bed", "sofa/couch", "bed", "sofa/couch"]
    frames = build(stage, [[stage.say(label, CHAIR_BOX, score=0.6)] for label in said])
    assert ids(frames, "sofa/couch") == [[2]] * 6


def test_the_vote_for_a_label_counts_second_best_classes_too(stage) -> None:
    sofa = [stage.say("sofa/couch", CHAIR_BOX, score=0.5, also={"chair": 0.49})]
    bed = [stage.say("bed", CHAIR_BOX, score=0.5, also={"chair": 0.49})]
    assert ids(build(stage, [sofa, bed, sofa, bed]), "chair") == [[2]] * 4


def test_a_class_that_flickers_on_a_moving_thing_keeps_id_and_label(stage) -> None:
    """Boxes of two frames do not overlap; the second best class tells that they are of one thing."""
    said = [("cup/glass/bottle", "food"), ("food", "cup/glass/bottle"), ("cup/glass/bottle", "food")] * 2
    script = [
        [stage.say(best, stage.moved(CUP_BOX, 0.06 * (t % 2)), score=0.6, also={second: 0.4})]
        for t, (best, second) in enumerate(said)
    ]
    assert ids(build(stage, script), "cup/glass/bottle") == [[2]] * 6


def test_a_moving_thing_of_quite_another_class_is_another_thing(stage) -> None:
    said = [("cup/glass/bottle", "dish")] * 3 + [("shoe", "clothes")] * 3
    script = [
        [stage.say(best, stage.moved(CUP_BOX, right), score=0.6, also={second: 0.4})]
        for right, (best, second) in zip((0, 0.06, 0, 0.06, 0.12, 0.18), said, strict=True)
    ]
    frames = build(stage, script)
    assert ids(frames, "cup/glass/bottle") == [[2]] * 3 + [[]] * 3
    assert ids(frames, "shoe") == [[]] * 3 + [[3]] * 3


def test_two_people_keep_their_ids(stage) -> None:
    script = [
        [stage.say("chair", CHAIR_BOX, stage.moved(LEFT, 0.01 * t)), stage.say("chair", CHAIR_BOX, RIGHT)][:: (-1) ** t]
        for t in range(6)
    ]
    frames = build(stage, script)
    places = [{thing.id: thing.box[0] < 320 for thing in frame.objects if thing.label == "person"} for frame in frames]
    assert len(places[0]) == 2
    assert places == [places[0]] * 6


def test_ids_count_up_by_first_appearance_people_first(stage) -> None:
    first = [stage.say("chair", CHAIR_BOX, LEFT)]
    script = [first, [*first, stage.say("book", CUP_BOX, RIGHT)], [*first, stage.say("book", CUP_BOX, RIGHT)]]
    frames = build(stage, script)
    assert [(thing.id, thing.label) for thing in frames[1].objects] == [
        (1, "person"),
        (3, "person"),
        (2, "chair"),
        (4, "book"),
    ]


@pytest.mark.parametrize(("score", "shown"), [(0.35, 0), (0.9, 1)])
def test_an_unsure_detection_of_a_single_frame_is_dropped(stage, score: float, shown: int) -> None:
    seen = stage.say("chair", CHAIR_BOX)
    script = [[seen], [seen], [seen, stage.say("book", CUP_BOX, score=score, holding=0.9)], [seen], [seen]]
    frames = build(stage, script)
    assert sum(len(found) for found in ids(frames, "book")) == shown
    assert len(frames[2].triplets) == shown


def test_a_short_video_keeps_detections_of_a_single_frame(stage) -> None:
    assert ids(build(stage, [[stage.say("book", CUP_BOX, score=0.35)]]), "book") == [[2]]


def test_two_frames_of_one_time_are_linked(stage) -> None:
    assert ids(build(stage, [[stage.say("chair", CHAIR_BOX)]] * 3, interval=0.0), "chair") == [[2]] * 3

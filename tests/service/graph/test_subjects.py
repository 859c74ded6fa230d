"""A subject that no pair has is in the graph, once, where the model tells of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.graph.bundle import Scoring, Statements, Thresholds
from models.graph.predictions import PairPredictions
from models.graph.vocabulary import PredicateGroup, Vocabulary
from service.graph import GraphBuilder

Box = tuple[float, float, float, float]
Person = tuple[Box, float]
"""A box and its score."""

STANDING, RIGHT = (0.3, 0.2, 0.5, 0.9), (0.65, 0.1, 0.95, 0.95)
CUP = (0.45, 0.4, 0.5, 0.5)


def with_persons(predictions: PairPredictions, *frames: list[Person], **rest: Any) -> PairPredictions:
    """The predictions of a model that also tells of these persons, frame by frame."""
    slots = max(map(len, frames)) + 1
    boxes, scores = np.zeros((len(frames), slots, 4), np.float32), np.zeros((len(frames), slots), np.float32)
    for t, persons in enumerate(frames):
        for k, (box, score) in enumerate(persons):
            boxes[t, k], scores[t, k] = box, score
    return replace(predictions, person_boxes=boxes, person_scores=scores, **rest)


def shown(stage: Any, predictions: PairPredictions, **options: Any) -> list[list[tuple[int, str]]]:
    """The ids and labels of all objects, frame by frame."""
    frames, _ = stage.build(predictions, **options)
    return [[(thing.id, thing.label) for thing in frame.objects] for frame in frames]


def test_a_person_without_a_thing_is_in_the_graph(stage) -> None:
    (frame,), relations = stage.build(with_persons(stage.predict([[]]), [(RIGHT, 0.8)]))
    (person,) = frame.objects
    assert (person.label, person.score) == ("person", pytest.approx(0.8))
    assert person.box == pytest.approx((416, 36, 608, 342))
    assert (frame.triplets, relations) == ([], [])


def test_a_model_that_knows_persons_of_pairs_only_gives_the_same_graph_as_before(stage) -> None:
    said = stage.predict([[stage.say("cup/glass/bottle", CUP, holding=0.9)]])
    of_pair = [(STANDING, 0.95)]
    assert stage.build(with_persons(said, of_pair)) == stage.build(said)
    assert shown(stage, stage.predict([[]])) == [[]]


def test_a_person_keeps_the_id_when_the_thing_is_gone(stage) -> None:
    said = stage.say("cup/glass/bottle", CUP, holding=0.9)
    here = [(STANDING, 0.95)]
    predictions = with_persons(stage.predict([[said], [], [said], []]), here, here, here, here)
    assert shown(stage, predictions) == [
        [(1, "person"), (2, "cup/glass/bottle")], [(1, "person")], [(1, "person"), (2, "cup/glass/bottle")],
        [(1, "person")],
    ]  # fmt: skip


def test_a_lone_person_beside_one_of_a_pair_is_a_second_one(stage) -> None:
    said = stage.say("cup/glass/bottle", CUP, holding=0.9)
    predictions = with_persons(stage.predict([[said]]), [(STANDING, 0.95), (RIGHT, 0.6)])
    (frame,), _ = stage.build(predictions)
    assert [(thing.label, round(thing.score, 2)) for thing in frame.objects] == [
        ("person", 0.95), ("person", 0.6), ("cup/glass/bottle", 0.9),
    ]  # fmt: skip
    (triplet,) = frame.triplets
    assert (triplet.subject, triplet.object) == (1, 3)


@pytest.mark.parametrize("box", [(0.31, 0.2, 0.51, 0.9), (0.35, 0.25, 0.45, 0.5)])
def test_another_box_of_a_pairs_person_is_no_second_one(stage, box: Box) -> None:
    said = stage.say("cup/glass/bottle", CUP, holding=0.9)
    assert len(shown(stage, with_persons(stage.predict([[said]]), [(box, 0.9)]))[0]) == 2


def test_boxes_of_one_lone_person_are_one(stage) -> None:
    upper_body = (0.7, 0.15, 0.9, 0.5)
    predictions = with_persons(stage.predict([[]]), [(upper_body, 0.7), (RIGHT, 0.9)])
    assert shown(stage, predictions) == [[(1, "person")]]
    child = Statements(contained_subject_share=1)
    assert len(shown(stage, predictions, statements=child)[0]) == 2, "a child in front of an adult"


def test_a_person_of_a_pair_that_is_not_shown_is_a_lone_one(stage) -> None:
    unsure = stage.say("cup/glass/bottle", CUP, score=0.1, holding=0.9)
    assert shown(stage, with_persons(stage.predict([[unsure]]), [(STANDING, 0.95)])) == [[(1, "person")]]


@pytest.mark.parametrize(
    ("box", "score"),
    [
        (RIGHT, 0.39),
        (RIGHT, np.nan),
        ((0.5, 0.2, 0.501, 0.9), 0.9),
        ((1.2, 0.2, 1.4, 0.9), 0.9),
        ((0.5, np.nan, 0.7, 0.9), 0.9),
        ((0.5, 0.2, np.inf, 0.9), 0.9),
    ],
)
def test_a_lone_person_who_is_unsure_or_outside_the_picture_is_not_shown(stage, box: Box, score: float) -> None:
    thresholds = Thresholds(object_score=0.2, lone_subject_score=0.4)
    assert shown(stage, with_persons(stage.predict([[]]), [(box, score)]), thresholds=thresholds) == [[]]
    assert shown(stage, with_persons(stage.predict([[]]), [(RIGHT, 0.4)]), thresholds=thresholds) != [[]]


def test_a_lone_person_is_clipped_to_the_picture(stage) -> None:
    (frame,), _ = stage.build(with_persons(stage.predict([[]]), [((-0.5, 0.5, 0.5, 1.5), 0.9)]))
    assert frame.objects[0].box == pytest.approx((0, 180, 320, 360))


def test_a_lone_person_must_be_seen_as_often_as_the_bundle_says(stage) -> None:
    frames = [[(RIGHT, 0.9)] if index < 2 else [] for index in range(10)]
    predictions = with_persons(stage.predict([[]] * 10), *frames)
    assert any(shown(stage, predictions))
    assert not any(shown(stage, predictions, statements=Statements(least_sightings=3)))


def test_a_person_who_passes_by_is_shown_where_two_frames_are_sure(stage) -> None:
    frames = [[(RIGHT, 0.9)] if index in (3, 4) else [] for index in range(10)]
    predictions = with_persons(stage.predict([[]] * 10), *frames)
    strict = Statements(least_sightings=3, least_seconds=2)
    assert not any(shown(stage, predictions, statements=strict))
    sure = strict.model_copy(update={"sure_subject_score": 0.8})
    assert [bool(objects) for objects in shown(stage, predictions, statements=sure)] == [
        index in (3, 4) for index in range(10)
    ]
    surer = strict.model_copy(update={"sure_subject_score": 0.95})
    assert not any(shown(stage, predictions, statements=surer))


def test_how_a_video_is_cut_changes_nothing(stage) -> None:
    rng = np.random.default_rng(3)
    script = [[stage.say("cup/glass/bottle", CUP, holding=0.9)] * int(rng.integers(0, 2)) for _ in range(70)]
    persons = [[(STANDING, 0.95)] * int(rng.integers(0, 2)) + [(RIGHT, rng.random())] for _ in range(70)]
    predictions = with_persons(stage.predict(script), *persons)
    whole = stage.build(predictions)
    for cuts in (range(1, 70), (5, 33, 64)):
        assert stage.build(predictions, cuts) == whole


def test_a_lone_subject_has_its_own_class() -> None:
    vocabulary = Vocabulary(
        objects=("crate", "robot", "person"),
        subjects=("person", "robot"),
        groups=(PredicateGroup(name="handling", predicates=("lifts", "pushes")),),
    )
    empty = PairPredictions(
        pair_mask=np.zeros((1, 1), np.bool_),
        subject_boxes=np.zeros((1, 1, 4), np.float32),
        subject_scores=np.zeros((1, 1), np.float32),
        object_boxes=np.zeros((1, 1, 4), np.float32),
        object_scores=np.zeros((1, 1, 3), np.float32),
        predicate_scores=np.zeros((1, 1, 2), np.float32),
        subject_classes=np.zeros((1, 1), np.int64),
    )
    classes = np.array([[1, 2, 0, 2]])
    persons = [(STANDING, 0.9), (RIGHT, 0.8), ((0.0, 0.0, 0.2, 0.2), 0.7)]
    builder = GraphBuilder(
        vocabulary=vocabulary, width=100, height=100, thresholds=Thresholds(), scoring=Scoring(),
        statements=Statements(), min_score=0, top_k=20, constraint="with",
    )  # fmt: skip
    builder.add(with_persons(empty, persons, person_classes=classes), [0.0])
    (frame,) = builder.finish().frames()
    assert [thing.label for thing in frame.objects] == ["robot", "person"], "a crate cannot act"

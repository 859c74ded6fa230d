"""Subjects of several classes, groups of a model's own, and scores that join as its bundle says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from models.graph.bundle import Scoring, Statements, Thresholds
from models.graph.predictions import PairPredictions
from models.graph.scene_graph import Constraint, Frame
from models.graph.vocabulary import PredicateGroup, Vocabulary
from service.graph import GraphBuilder

VOCABULARY = Vocabulary(
    objects=("crate", "robot", "jar", "person"),
    subjects=("person", "robot"),
    groups=(
        PredicateGroup(name="placing", predicates=("under", "near"), direction="object_to_subject", exclusive=True),
        PredicateGroup(name="handling", predicates=("lifts", "pushes")),
    ),
)
Box = tuple[float, float, float, float]
LEFT, RIGHT = (0.1, 0.1, 0.3, 0.9), (0.6, 0.1, 0.9, 0.9)
CRATE, JAR = (0.4, 0.4, 0.5, 0.5), (0.3, 0.7, 0.35, 0.8)
Said = tuple[str, str, str]


@dataclass(frozen=True)
class Pair:
    """One slot: a subject, a thing and the scores of predicates."""

    subject: str = "person"
    subject_box: Box = LEFT
    thing: str = "crate"
    box: Box = CRATE
    predicates: Mapping[str, float] = field(default_factory=lambda: {"lifts": 0.8})
    subject_score: float = 0.9
    relation: float | None = None


def frame_of(*pairs: Pair, constraint: Constraint = "with", scoring: Scoring | None = None, **rest: Any) -> Frame:
    """The graph of a video of one frame, with these pairs."""
    names = VOCABULARY.object_index
    relations = [pair.relation for pair in pairs]
    predictions = PairPredictions(
        pair_mask=np.ones((1, len(pairs)), np.bool_),
        subject_boxes=np.array([[pair.subject_box for pair in pairs]], np.float32),
        subject_scores=np.array([[pair.subject_score for pair in pairs]], np.float32),
        object_boxes=np.array([[pair.box for pair in pairs]], np.float32),
        object_scores=np.array([[0.9 * np.eye(4)[names[pair.thing]] for pair in pairs]], np.float32),
        predicate_scores=np.array(
            [[[pair.predicates.get(name, 0.01) for name in VOCABULARY.predicates] for pair in pairs]], np.float32
        ),
        subject_classes=np.array([[names[pair.subject] for pair in pairs]]),
        relation_scores=None if None in relations else np.array([relations], np.float32),
    )
    builder = GraphBuilder(
        vocabulary=VOCABULARY,
        width=100,
        height=100,
        thresholds=Thresholds(object_score=0.2, predicate_score=0.2, **rest),
        scoring=scoring or Scoring(),
        statements=Statements(),
        min_score=0,
        top_k=20,
        constraint=constraint,
    )
    builder.add(predictions, [0.0])
    (frame,) = builder.finish().frames()
    return frame


def said(frame: Frame) -> list[Said]:
    labels = {thing.id: thing.label for thing in frame.objects}
    return [(labels[each.subject], each.predicate, labels[each.object]) for each in frame.triplets]


def test_subjects_of_two_classes_each_have_their_triplets() -> None:
    frame = frame_of(Pair(), Pair("robot", RIGHT, predicates={"pushes": 0.7, "under": 0.6}))
    assert [thing.label for thing in frame.objects] == ["person", "robot", "crate"]
    assert said(frame) == [("person", "lifts", "crate"), ("robot", "pushes", "crate"), ("crate", "under", "robot")]
    assert [triplet.group for triplet in frame.triplets] == ["handling", "handling", "placing"]


def test_two_classes_on_one_box_are_one_subject_of_the_surer_class() -> None:
    frame = frame_of(Pair(subject_score=0.7), Pair("robot", LEFT, "jar", JAR))
    assert sorted(thing.label for thing in frame.objects) == ["crate", "jar", "robot"]
    assert sorted(said(frame)) == [("robot", "lifts", "crate"), ("robot", "lifts", "jar")]


def test_subjects_of_two_classes_that_only_overlap_stay_two() -> None:
    beside = (0.15, 0.1, 0.35, 0.9)
    frame = frame_of(Pair(), Pair("robot", beside, "jar", JAR))
    assert said(frame) == [("person", "lifts", "crate"), ("robot", "lifts", "jar")]


def test_a_slot_whose_class_may_not_be_a_subject_is_dropped() -> None:
    frame = frame_of(Pair(), Pair("jar", RIGHT))
    assert said(frame) == [("person", "lifts", "crate")]


def test_semi_constraint_keeps_the_best_of_an_exclusive_group_and_all_sure_ones_of_others() -> None:
    predicates = {"under": 0.4, "near": 0.95, "lifts": 0.93, "pushes": 0.92}
    assert [predicate for _, predicate, _ in said(frame_of(Pair(predicates=predicates), constraint="semi"))] == [
        "near", "lifts", "pushes",
    ]  # fmt: skip
    unsure = {"under": 0.4, "near": 0.3, "lifts": 0.8}
    assert [predicate for _, predicate, _ in said(frame_of(Pair(predicates=unsure), constraint="semi"))] == ["under"]


def test_scores_join_as_the_bundle_says() -> None:
    pair = Pair(predicates={"lifts": 0.8}, relation=0.25)
    (plain,) = frame_of(pair).triplets
    assert plain.score == pytest.approx(0.9 * 0.9 * 0.8 * 0.25, abs=1e-4)
    (joined,) = frame_of(pair, scoring=Scoring(predicate_temperature=2, relation_exponent=0.5)).triplets
    odds = (0.8 / 0.2) ** 2
    assert joined.score == pytest.approx(0.9 * 0.9 * odds / (1 + odds) * 0.5, abs=1e-4)
    assert (joined.predicate_score, joined.relation_score) == (plain.predicate_score, plain.relation_score)


def test_a_relation_exponent_of_zero_leaves_relation_scores_out_of_the_order() -> None:
    pairs = Pair(relation=0.9), Pair("robot", RIGHT, "jar", JAR, {"lifts": 0.85}, relation=0.3)
    assert [subject for subject, *_ in said(frame_of(*pairs))] == ["person", "robot"]
    without = frame_of(*pairs, scoring=Scoring(relation_exponent=0))
    assert [subject for subject, *_ in said(without)] == ["robot", "person"]

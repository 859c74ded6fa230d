"""The dense arrays between bundle and service: groups are joined, shapes are checked, clips are cut out and joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.graph.predictions import PERSON_FIELDS, PairPredictions, prediction_depths, prediction_names
from models.graph.vocabulary import PredicateGroup, Vocabulary

VOCABULARY = Vocabulary(
    objects=("person", "robot", "crate"),
    subjects=("person", "robot"),
    groups=(
        PredicateGroup(name="handling", predicates=("lifting", "pushing")),
        PredicateGroup(name="placing", predicates=("inside", "under", "next_to"), direction="object_to_subject"),
    ),
)
UNCERTAINTY = ("epistemic", "aleatoric")


PERSONS = 3
"""Slots for subjects of a frame."""


def outputs(batch: int, time: int, pairs: int, *, left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """All tensors of a bundle but those left out; every value its own."""
    random = np.random.default_rng(0)
    slots = {name: PERSONS if name in PERSON_FIELDS else pairs for name in prediction_names(VOCABULARY)}
    arrays: dict[str, Any] = {
        name: random.random((batch, time, slots[name], *depth)).astype(np.float32)
        for name, depth in prediction_depths(VOCABULARY).items()
    }
    arrays["pair_mask"] = np.ones((batch, time, pairs), np.bool_)
    arrays["subject_classes"] = np.zeros((batch, time, pairs), np.int64)
    arrays["person_classes"] = np.ones((batch, time, PERSONS), np.int64)
    return {name: array for name, array in arrays.items() if name not in left_out}


def test_the_names_and_depths_are_those_of_the_vocabulary() -> None:
    assert prediction_names(VOCABULARY) == {
        "pair_mask", "subject_boxes", "subject_scores", "subject_classes", "object_boxes", "object_scores",
        "handling", "placing", "relation_scores", "epistemic", "aleatoric", "person_boxes", "person_scores",
        "person_classes",
    }  # fmt: skip
    depths = prediction_depths(VOCABULARY)
    assert depths.keys() == prediction_names(VOCABULARY)
    assert (depths["object_scores"], depths["handling"], depths["placing"]) == ((3,), (2,), (3,))
    assert depths["epistemic"] == (5,)


def test_a_clip_is_taken_out_of_a_batch_and_unknown_outputs_are_ignored() -> None:
    batch = outputs(3, 2, 4, left_out=("relation_scores", *UNCERTAINTY))
    clip = PairPredictions.from_outputs({**batch, "tokens": np.zeros(7)}, VOCABULARY, 1)
    assert len(clip) == 2
    assert clip.relation_scores is None
    np.testing.assert_array_equal(clip.object_boxes, batch["object_boxes"][1])


def test_groups_are_joined_in_the_order_of_the_vocabulary() -> None:
    batch = outputs(1, 2, 4)
    clip = PairPredictions.from_outputs(dict(reversed(batch.items())), VOCABULARY)
    np.testing.assert_array_equal(clip.predicate_scores[..., :2], batch["handling"][0])
    np.testing.assert_array_equal(clip.predicate_scores[..., 2:], batch["placing"][0])


@pytest.mark.parametrize("name", ["placing", "object_boxes", "subject_classes", "person_boxes", "person_classes"])
def test_a_missing_tensor_is_named(name: str) -> None:
    batch = outputs(1, 2, 4)
    del batch[name]
    with pytest.raises(ValueError, match=f"the stages make no tensor '{name}'"):
        PairPredictions.from_outputs(batch, VOCABULARY)


@pytest.mark.parametrize("name", ["object_scores", "handling"])
def test_a_tensor_that_does_not_fit_the_vocabulary_is_named(name: str) -> None:
    batch = outputs(1, 2, 4)
    batch[name] = np.zeros((1, 2, 4, 9), np.float32)
    with pytest.raises(ValueError, match=rf"{name} must have \d columns as the vocabulary says, not \(2, 4, 9\)"):
        PairPredictions.from_outputs(batch, VOCABULARY)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("subject_boxes", (2, 3, 4)),
        ("predicate_scores", (2, 3, 5)),
        ("subject_classes", (2, 5)),
        ("relation_scores", (2, 5)),
        ("aleatoric", (2, 4, 4)),
        ("person_boxes", (2, 4, 4)),
        ("person_classes", (1, 3)),
        ("pair_mask", (2,)),
    ],
)
def test_an_array_of_the_wrong_shape_is_named(name: str, shape: tuple[int, ...]) -> None:
    said = vars(PairPredictions.from_outputs(outputs(1, 2, 4), VOCABULARY))
    wrong = np.zeros(shape, said[name].dtype)
    with pytest.raises(ValueError, match=rf"{name} must have shape .*not \({', '.join(map(str, shape))},?\)"):
        PairPredictions(**{**said, name: wrong})


@pytest.mark.parametrize("kind", UNCERTAINTY)
def test_one_kind_of_uncertainty_alone_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="epistemic and aleatoric go together"):
        PairPredictions.from_outputs(outputs(1, 2, 4, left_out=(kind,)), VOCABULARY)


def test_boxes_of_subjects_without_scores_are_ignored() -> None:
    batch = outputs(1, 2, 4, left_out=("person_scores", "person_classes"))
    assert PairPredictions.from_outputs(batch, VOCABULARY).person_boxes is None, "older bundles make them for pose"
    said = vars(PairPredictions.from_outputs(batch, VOCABULARY))
    with pytest.raises(ValueError, match="person_boxes and person_scores go together"):
        PairPredictions(**said | {"person_boxes": batch["person_boxes"][0]})


def test_all_boxes_are_scaled() -> None:
    clip = PairPredictions.from_outputs(outputs(1, 2, 4), VOCABULARY)
    scaled = clip.with_boxes_scaled(2, 1)
    for name in ("subject_boxes", "object_boxes", "person_boxes"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(clip, name) * [2, 1, 2, 1], rtol=1e-6)


@pytest.mark.parametrize("left_out", [(), ("relation_scores", *UNCERTAINTY, *PERSON_FIELDS)])
def test_clips_are_joined_along_time_in_order(left_out: tuple[str, ...]) -> None:
    batch = outputs(2, 3, 4, left_out=left_out)
    clips = [PairPredictions.from_outputs(batch, VOCABULARY, index) for index in range(2)]
    joined = PairPredictions.concatenate(clips)
    assert len(joined) == 6
    for name in ("object_boxes", "subject_classes", "relation_scores", *UNCERTAINTY, *PERSON_FIELDS):
        if name in left_out:
            assert getattr(joined, name) is None
        else:
            np.testing.assert_array_equal(getattr(joined, name), batch[name].reshape(6, *batch[name].shape[2:]))

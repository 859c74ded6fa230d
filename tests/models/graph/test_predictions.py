"""The dense arrays between bundle and service: groups are joined, shapes are checked, clips are cut out and joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.graph.predictions import PairPredictions, prediction_depths, prediction_names
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


def outputs(batch: int, time: int, pairs: int, *, left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """All tensors of a bundle but those left out; every value its own."""
    random = np.random.default_rng(0)
    depths = {name: depth for name, depth in prediction_depths(VOCABULARY).items() if name not in left_out}
    arrays: dict[str, Any] = {
        name: random.random((batch, time, pairs, *depth)).astype(np.float32) for name, depth in depths.items()
    }
    shape = (batch, time, pairs)
    return arrays | {"pair_mask": np.ones(shape, np.bool_), "subject_classes": np.zeros(shape, np.int64)}


def test_the_names_and_depths_are_those_of_the_vocabulary() -> None:
    assert prediction_names(VOCABULARY) == {
        "pair_mask", "subject_boxes", "subject_scores", "subject_classes", "object_boxes", "object_scores",
        "handling", "placing", "relation_scores", "epistemic", "aleatoric",
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


@pytest.mark.parametrize("name", ["placing", "object_boxes", "subject_classes"])
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


@pytest.mark.parametrize("left_out", [(), ("relation_scores", *UNCERTAINTY)])
def test_clips_are_joined_along_time_in_order(left_out: tuple[str, ...]) -> None:
    batch = outputs(2, 3, 4, left_out=left_out)
    clips = [PairPredictions.from_outputs(batch, VOCABULARY, index) for index in range(2)]
    joined = PairPredictions.concatenate(clips)
    assert len(joined) == 6
    for name in ("object_boxes", "subject_classes", "relation_scores", "epistemic", "aleatoric"):
        if name in left_out:
            assert getattr(joined, name) is None
        else:
            np.testing.assert_array_equal(getattr(joined, name), batch[name].reshape(6, *batch[name].shape[2:]))

"""The dense arrays between bundle and service: shapes are checked, clips are cut out and joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.graph.predictions import PairPredictions


def outputs(batch: int, time: int, pairs: int, *, relation: bool = False, uncertainty: bool = False) -> dict[str, Any]:
    """A bundle's outputs, every value its own."""
    depths: dict[str, tuple[int, ...]] = {
        "subject_boxes": (4,), "subject_scores": (), "object_boxes": (4,), "object_scores": (36,),
        "attention": (3,), "spatial": (6,), "contacting": (17,),
    }  # fmt: skip
    if relation:
        depths["relation_scores"] = ()
    if uncertainty:
        depths |= {"epistemic": (26,), "aleatoric": (26,)}
    random = np.random.default_rng(0)
    arrays = {name: random.random((batch, time, pairs, *depth)).astype(np.float32) for name, depth in depths.items()}
    return {"pair_mask": np.ones((batch, time, pairs), np.bool_), **arrays}


def test_a_clip_is_taken_out_of_a_batch_and_unknown_outputs_are_ignored() -> None:
    batch = outputs(3, 2, 4)
    clip = PairPredictions.from_outputs({**batch, "tokens": np.zeros(7)}, 1)
    assert len(clip) == 2
    assert clip.relation_scores is None
    np.testing.assert_array_equal(clip.contacting, batch["contacting"][1])


@pytest.mark.parametrize(
    ("name", "shape"), [("object_scores", (2, 4, 35)), ("subject_boxes", (2, 3, 4)), ("pair_mask", (2,))]
)
def test_an_array_of_the_wrong_shape_is_named(name: str, shape: tuple[int, ...]) -> None:
    arrays = {key: value[0] for key, value in outputs(1, 2, 4).items()}
    arrays[name] = np.zeros(shape, arrays[name].dtype)
    with pytest.raises(ValueError, match=rf"{name} must have shape .*not \({', '.join(map(str, shape))},?\)"):
        PairPredictions(**arrays)


def test_relation_scores_are_checked_like_the_rest() -> None:
    arrays = {key: value[0] for key, value in outputs(1, 2, 4, relation=True).items()}
    assert PairPredictions(**arrays).relation_scores is not None
    with pytest.raises(ValueError, match="relation_scores"):
        PairPredictions(**{**arrays, "relation_scores": np.zeros((2, 5), np.float32)})


def test_uncertainties_are_checked_like_the_rest_and_come_both_or_not_at_all() -> None:
    arrays = {key: value[0] for key, value in outputs(1, 2, 4, uncertainty=True).items()}
    assert PairPredictions(**arrays).epistemic is not None
    with pytest.raises(ValueError, match=r"aleatoric must have shape \(2, 4, 26\), not \(2, 4, 17\)"):
        PairPredictions(**{**arrays, "aleatoric": np.zeros((2, 4, 17), np.float32)})
    del arrays["epistemic"]
    with pytest.raises(ValueError, match="epistemic and aleatoric go together"):
        PairPredictions(**arrays)


def test_uncertainties_are_joined_along_time_in_order() -> None:
    batch = outputs(2, 3, 4, uncertainty=True)
    joined = PairPredictions.concatenate([PairPredictions.from_outputs(batch, index) for index in range(2)])
    np.testing.assert_array_equal(joined.epistemic, batch["epistemic"].reshape(6, 4, 26))
    np.testing.assert_array_equal(joined.aleatoric, batch["aleatoric"].reshape(6, 4, 26))


@pytest.mark.parametrize("relation", [False, True])
def test_clips_are_joined_along_time_in_order(relation: bool) -> None:
    batch = outputs(2, 3, 4, relation=relation)
    joined = PairPredictions.concatenate([PairPredictions.from_outputs(batch, index) for index in range(2)])
    assert len(joined) == 6
    np.testing.assert_array_equal(joined.object_boxes, batch["object_boxes"].reshape(6, 4, 4))
    if relation:
        np.testing.assert_array_equal(joined.relation_scores, batch["relation_scores"].reshape(6, 4))
    else:
        assert joined.relation_scores is None

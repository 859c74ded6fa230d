"""A bundle over annotated videos says and scores what its checkpoint does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.export.conftest import Exported
from training.data.action_genome import load_action_genome
from training.errors import EvaluationError
from training.prediction import evaluate_model, load_predictor, predict_video

SAID = ("subject_boxes", "subject_scores", "object_boxes", "object_scores", "predicate_scores")


def compare(exported: Exported, puppets: Path) -> set[str]:
    """Asserts that both agree; returns which optional fields they give."""
    videos = load_action_genome(puppets, split="test", small_objects="keep")
    predictors = [load_predictor(model) for model in (exported.checkpoint, exported.bundle.folder)]
    assert predictors[0].frame_size == predictors[1].frame_size == (64, 64)
    assert predictors[0].clip_length == predictors[1].clip_length
    optional, pairs = set(), 0
    for video in videos:
        ours, theirs = (predict_video(video, predictor) for predictor in predictors)
        np.testing.assert_array_equal(ours.pair_mask, theirs.pair_mask)
        pairs += ours.pair_mask.sum()
        given = {name for name in ("relation_scores", "epistemic", "aleatoric") if getattr(ours, name) is not None}
        for name in (*SAID, *given):
            first, second = (getattr(each, name)[each.pair_mask] for each in (ours, theirs))
            np.testing.assert_allclose(first, second, atol=2e-4, rtol=1e-3, err_msg=name)
        optional |= given
    assert pairs > 0
    assert evaluate_model(puppets, exported.checkpoint) == evaluate_model(puppets, exported.bundle.folder)
    return optional


@pytest.mark.parametrize("name", ["small", "scored_arn", "scored_sttran"])
def test_a_bundle_scores_the_same_figures_as_its_checkpoint(
    name: str, request: pytest.FixtureRequest, puppets: Path
) -> None:
    given = compare(request.getfixturevalue(name), puppets)
    assert given == ({"relation_scores"} if name != "small" else set())


def test_a_relation_networks_bundle_scores_the_same_figures_as_its_checkpoint(other: Exported, puppets: Path) -> None:
    uncertain = other.bundle.manifest.name in ("fremure-bayesian", "fremure-gmm")
    assert compare(other, puppets) == ({"epistemic", "aleatoric"} if uncertain else set())


def test_evaluating_a_bundle_with_given_boxes_is_refused(scored_sttran: Exported) -> None:
    with pytest.raises(EvaluationError, match="task 'predcls' needs given boxes, which a bundle does not take"):
        load_predictor(scored_sttran.bundle.folder, "predcls")

"""How the scores of a triplet join."""

from __future__ import annotations

import numpy as np
import pytest

from models.graph.bundle import Scoring
from models.graph.scoring import join_scores, sharpen


def test_the_defaults_multiply_and_change_no_bit() -> None:
    random = np.random.default_rng(0)
    pairs, predicates, relations = random.random((3, 50))
    assert (join_scores(pairs, predicates, relations, Scoring()) == pairs * predicates * relations).all()
    assert (join_scores(pairs, predicates, None, Scoring()) == pairs * predicates).all()


def test_a_temperature_raises_the_odds_to_a_power() -> None:
    # Odds of 3, squared: 9 to 1.
    assert sharpen(np.array([0.75, 0.5, 0.25]), 2.0).tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert sharpen(np.array([0.9]), 0.5).tolist() == pytest.approx([0.75])
    scores = join_scores(np.array([0.5]), np.array([0.75]), np.array([0.25]), Scoring(predicate_temperature=2.0))
    assert scores.tolist() == pytest.approx([0.5 * 0.9 * 0.25])


@pytest.mark.parametrize("temperature", [0.01, 0.5, 3.0, 1000.0])
def test_sharpening_keeps_the_order_and_the_ends(temperature: float) -> None:
    with np.errstate(all="raise"):
        sharpened = sharpen(np.array([0.0, 1e-9, 0.3, 0.5, 0.8, 1 - 1e-9, 1.0]), temperature)
    assert (np.diff(sharpened) >= 0).all()
    assert (sharpened[0], sharpened[3], sharpened[-1]) == (0.0, 0.5, 1.0)


def test_an_exponent_says_how_much_the_relation_score_counts() -> None:
    pairs, predicates, relations = np.array([0.5]), np.array([0.8]), np.array([0.25])
    assert join_scores(pairs, predicates, relations, Scoring(relation_exponent=0.5)).tolist() == pytest.approx([0.2])
    assert join_scores(pairs, predicates, relations, Scoring(relation_exponent=0)).tolist() == pytest.approx([0.4])


def test_pairs_broadcast_against_their_predicates() -> None:
    scores = join_scores(np.ones((2, 1)), np.full((2, 3), 0.5), np.array([[1.0], [0.5]]), Scoring())
    assert scores.tolist() == [[0.5] * 3, [0.25] * 3]

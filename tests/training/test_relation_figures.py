"""Figures of pairs that are judged one by one."""

from dataclasses import replace

import numpy as np
import pytest

from models.graph.vocabulary import PredicateGroup, Vocabulary
from training.relation_figures import (
    JudgedPairs,
    area_under_curve,
    average_precision,
    calibration_error,
    relation_figures,
)

WORDS = Vocabulary(
    objects=("person", "cup"), groups=(PredicateGroup(name="place", predicates=("over", "under")),)
)  # fmt: skip


def pairs(count: int = 40) -> JudgedPairs:
    """Pairs that are all annotated and asked of both predicates; the first half is over, the rest under."""
    over = np.arange(count) < count // 2
    return JudgedPairs(
        scores=np.stack((np.where(over, 0.9, 0.2), np.where(over, 0.1, 0.8)), 1),
        relatedness=np.linspace(1, 0, count),
        holds=np.stack((over, ~over), 1),
        asked=np.ones((count, 2), np.bool_),
        annotated=np.ones(count, np.bool_),
        related=np.where(over, 1.0, 0.0),
        of_subject=np.arange(count) % 2 == 0,
    )


def test_the_precision_at_each_positive_is_averaged() -> None:
    scores, holds = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert average_precision(scores, holds) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, np.zeros(4, np.bool_)) is None


def test_calibration_is_the_distance_of_scores_from_shares() -> None:
    assert calibration_error(np.full(10, 0.75), np.arange(10) < 5) == pytest.approx(0.25)
    assert calibration_error(np.empty(0), np.empty(0, np.bool_)) is None


def test_perfect_scores_get_full_marks() -> None:
    figures = relation_figures(pairs(), WORDS)
    assert figures["mean"]["ap"] == 1
    assert figures["mean"]["ap_all_pairs"] < 1, "there the relatedness counts, too"
    assert figures["related"] == 1
    assert figures["top1"] == {"place": 1}
    assert figures["predicates"]["over"]["holds"] == 20
    assert figures["ece"] == pytest.approx(0.15)


def test_a_predicate_counts_only_where_it_was_asked() -> None:
    asked = pairs().asked.copy()
    asked[5:, 0] = False
    figures = relation_figures(replace(pairs(), asked=asked), WORDS)
    assert "over" not in figures["predicates"], "five pairs are too few to tell"
    assert figures["predicates"]["under"]["asked"] == 40
    assert figures["top1"] == {}, "the group was asked whole of five pairs only"


def test_pairs_that_nobody_annotated_are_false_and_ranked_with_their_relatedness() -> None:
    known = pairs()
    idle = replace(
        known, annotated=~known.annotated, asked=~known.asked, holds=known.holds & False, related=known.related * 0,
        scores=np.ones_like(known.scores), relatedness=np.full(40, 0.01),
    )  # fmt: skip
    sure = replace(known, relatedness=np.ones(40))
    figures = relation_figures(JudgedPairs.joined([sure, idle]), WORDS)
    assert figures["pairs"] == {"annotated": 40, "all": 80}
    assert figures["mean"]["ap_all_pairs"] == 1
    blind = relation_figures(
        JudgedPairs.joined([replace(sure, relatedness=None), replace(idle, relatedness=None)]), WORDS
    )
    assert blind["related"] is None
    assert blind["mean"]["ap_all_pairs"] < 0.6


def test_the_area_under_the_curve_counts_the_pairs_in_right_order() -> None:
    scores, holds = np.array([0.9, 0.8, 0.3, 0.3]), np.array([True, False, True, False])
    assert area_under_curve(scores, holds) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert area_under_curve(scores, ~holds) == pytest.approx(1 - 2.5 / 4)
    assert area_under_curve(scores, np.ones(4, np.bool_)) is None

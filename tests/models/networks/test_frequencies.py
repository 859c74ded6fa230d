"""Label counts and what is derived from them."""

from __future__ import annotations

import pytest
import torch

from models.graph.vocabulary import ACTION_GENOME, GroupName
from models.networks.frequencies import ACTION_GENOME_COUNTS, class_weights, predicate_shares

GROUPS = ACTION_GENOME.group_names
SLICES = ACTION_GENOME.group_slices
PREDICATES = ACTION_GENOME.predicates
PREDICATE_INDEX = ACTION_GENOME.predicate_index

COUNTS = torch.tensor(ACTION_GENOME_COUNTS)
GROUP_TOTALS: dict[GroupName, int] = {"attention": 376_483, "spatial": 446_394, "contacting": 410_634}


@pytest.mark.parametrize("group", GROUPS)
def test_counts_of_a_group_add_up_to_the_published_total(group: GroupName) -> None:
    assert sum(ACTION_GENOME_COUNTS[SLICES[group]]) == GROUP_TOTALS[group]


def test_counts_follow_the_vocabulary() -> None:
    assert len(ACTION_GENOME_COUNTS) == len(PREDICATES)
    known = {"unsure": 38_724, "in_front_of": 254_476, "in": 12_921, "holding": 156_897, "twisting": 86}
    assert {name: ACTION_GENOME_COUNTS[PREDICATE_INDEX[name]] for name in known} == known


def test_shares_are_of_the_predicates_own_group() -> None:
    shares = predicate_shares(COUNTS)
    for index, name in enumerate(PREDICATES):
        (group,) = (group for group in GROUPS if index in range(*SLICES[group].indices(26)))
        assert shares[index].item() == pytest.approx(ACTION_GENOME_COUNTS[index] / GROUP_TOTALS[group]), name


def test_weights_equal_a_small_case_by_hand() -> None:
    # Attention 1, 4, 16: beta 0.5 gives raw weights 1, 1/2, 1/4 but for a factor, whose mean is 7/12.
    counts = torch.ones(26)
    counts[:3] = torch.tensor((1.0, 4.0, 16.0))
    weights = class_weights(counts, 0.5)
    assert weights[:3].tolist() == pytest.approx([12 / 7, 6 / 7, 3 / 7])
    assert weights[3:].tolist() == pytest.approx([1.0] * 23)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_weights_are_one_on_average_and_fall_with_the_count(beta: float) -> None:
    weights = class_weights(COUNTS, beta)
    for group in GROUPS:
        weight = weights[SLICES[group]]
        assert weight.mean().item() == pytest.approx(1, abs=1e-5)
        ranked = weight[COUNTS[SLICES[group]].argsort()]
        assert torch.all(ranked[:-1] >= ranked[1:])
    spread = weights[PREDICATE_INDEX["twisting"]] / weights[PREDICATE_INDEX["holding"]]
    assert spread.item() == pytest.approx((156_897 / 86) ** beta, rel=1e-4)


def test_a_predicate_that_was_never_seen_has_finite_weight_and_share() -> None:
    counts = COUNTS.clone()
    counts[PREDICATE_INDEX["twisting"]] = 0
    assert class_weights(counts, 1.0).isfinite().all()
    assert predicate_shares(counts)[PREDICATE_INDEX["twisting"]] > 0

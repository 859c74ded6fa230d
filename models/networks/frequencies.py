"""Counts of each predicate's annotations, and the shares and weights that a network or a loss derives from them.

All are in the order of a vocabulary's R predicates.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from models.graph.vocabulary import ACTION_GENOME, Vocabulary

ACTION_GENOME_COUNTS: Final[tuple[int, ...]] = (
    144_546,  # looking_at
    193_213,  # not_looking_at
    38_724,  # unsure
    4_643,  # above
    58_176,  # beneath
    254_476,  # in_front_of
    46_368,  # behind
    69_810,  # on_the_side_of
    12_921,  # in
    4_008,  # carrying
    4_076,  # covered_by
    4_377,  # drinking_from
    3_214,  # eating
    314,  # have_it_on_the_back
    156_897,  # holding
    11_506,  # leaning_on
    3_395,  # lying_on
    105_067,  # not_contacting
    8_743,  # other_relationship
    40_545,  # sitting_on
    7_606,  # standing_on
    52_165,  # touching
    86,  # twisting
    6_761,  # wearing
    772,  # wiping
    1_102,  # writing_on
)
"""Number of labels in Action Genome's training set, from the published code of OED (`models/dsgg_single_xcls.py`) and
of TR² (`train.py`).
"""


def predicate_shares(counts: Tensor, vocabulary: Vocabulary = ACTION_GENOME) -> Tensor:
    """Returns each predicate's share of its group's labels (f of FReMuRe), (R,) float32. A group's shares add up to 1.

    A predicate that was never seen counts as seen once, so that its share has an inverse.

    counts: (R,) number of labels.
    """
    seen = counts.float().clamp(min=1)
    return torch.cat([seen[columns] / seen[columns].sum() for columns in vocabulary.group_slices.values()])


def class_weights(counts: Tensor, beta: float, vocabulary: Vocabulary = ACTION_GENOME) -> Tensor:
    """Returns weights of a loss that favours rare predicates (MoSA eq 11), (R,) float32, 1 on average in a group.

    w_c = (N / (C n_c))^beta over the C predicates and N labels of the group.

    counts: (R,) number of labels.
    beta: 0 gives all predicates the same weight, 1 the inverse of their count.
    """
    shares = predicate_shares(counts, vocabulary)
    weights = []
    for columns in vocabulary.group_slices.values():
        share = shares[columns]
        weight = (share * len(share)) ** -beta
        weights.append(weight / weight.mean())
    return torch.cat(weights)

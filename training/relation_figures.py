"""Figures of pairs that are judged one by one: average precision by predicate, relatedness, top-1 and calibration.

Relations without pixels are partly labelled, so a predicate is measured on the pairs that it was asked of. `all pairs`
adds the pairs that nobody annotated, of which nothing is taken to hold; there a predicate's score is multiplied by the
probability that the pair is related, as the service does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from models.graph.vocabulary import Vocabulary

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]

LEAST_POSITIVES = 10
"""A predicate that holds of fewer pairs is left out of the means: its figure would be luck."""
_BINS = 15


@dataclass(frozen=True)
class JudgedPairs:
    """N pairs with the truth and the scores of a network.

    scores: (N, R) float, of the vocabulary's predicates.
    relatedness: (N,) float, P(related); None where the network has no relation scorer.
    holds: (N, R) bool.
    asked: (N, R) bool, whether the data set says if the predicate holds.
    annotated: (N,) bool, whether the data set speaks of the pair.
    related: (N,) float, 1 or 0, and NaN where it is not known.
    of_subject: (N,) bool, whether the pair's subject is one of the vocabulary's.
    """

    scores: Floats
    relatedness: Floats | None
    holds: Booleans
    asked: Booleans
    annotated: Booleans
    related: Floats
    of_subject: Booleans

    @classmethod
    def joined(cls, parts: Sequence[JudgedPairs]) -> JudgedPairs:
        """Returns the pairs of all parts."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        joined = {name: None if each[0] is None else np.concatenate(each) for name, each in columns.items()}
        return cls(**joined)  # type: ignore[arg-type]


def relation_figures(pairs: JudgedPairs, vocabulary: Vocabulary) -> dict[str, Any]:
    """Returns the figures as plain values; None stands for one that cannot be measured on these pairs.

    Keys: `pairs` (counts), `mean` over predicates and `predicates` (by name), each with `ap` and `ap_all_pairs`, the
    latter also with `auc`, the area under the receiver's curve; `related`, the average precision of P(related); `top1`,
    the share of pairs whose best predicate of a group holds, by group that was asked whole, and `top1_of_subjects`, of
    the vocabulary's subjects alone; `ece`, the expected calibration error of all that was asked.
    """
    by_predicate = {}
    joint = pairs.scores if pairs.relatedness is None else pairs.scores * pairs.relatedness[:, None]
    for name, column in vocabulary.predicate_index.items():
        asked, holds = pairs.asked[:, column], pairs.holds[:, column]
        if (positives := int(holds[asked].sum())) < LEAST_POSITIVES:
            continue
        every = asked | ~pairs.annotated
        by_predicate[name] = {
            "ap": average_precision(pairs.scores[asked, column], holds[asked]),
            "ap_all_pairs": average_precision(joint[every, column], (holds & asked)[every]),
            "auc": area_under_curve(pairs.scores[asked, column], holds[asked]),
            "holds": positives,
            "asked": int(asked.sum()),
        }
    known = ~np.isnan(pairs.related)
    related = (
        None if pairs.relatedness is None else average_precision(pairs.relatedness[known], pairs.related[known] > 0)
    )
    everyone = np.ones(len(pairs.related), np.bool_)
    return {
        "pairs": {"annotated": int(pairs.annotated.sum()), "all": len(pairs.annotated)},
        "mean": {name: _mean([each[name] for each in by_predicate.values()]) for name in ("ap", "ap_all_pairs")},
        "related": related,
        "top1": _top1(pairs, vocabulary, everyone),
        "top1_of_subjects": _top1(pairs, vocabulary, pairs.of_subject),
        "ece": calibration_error(pairs.scores[pairs.asked], pairs.holds[pairs.asked]),
        "predicates": by_predicate,
    }


def _top1(pairs: JudgedPairs, vocabulary: Vocabulary, which: Booleans) -> dict[str, float]:
    found = {}
    for group, columns in vocabulary.group_slices.items():
        rows = which & pairs.asked[:, columns].all(axis=1) & pairs.holds[:, columns].any(axis=1)
        if rows.sum() >= LEAST_POSITIVES:
            best = pairs.scores[rows, columns].argmax(axis=1)
            found[group] = float(pairs.holds[rows, columns][np.arange(len(best)), best].mean())
    return found


def average_precision(scores: Floats, holds: Booleans) -> float | None:
    """Returns the mean of the precision at each positive, best score first: (N,) x 2. None without a positive."""
    if not holds.any():
        return None
    ranked = holds[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked].mean())


def area_under_curve(scores: Floats, holds: Booleans) -> float | None:
    """Returns the probability that a positive outranks a negative, half of it for ties: (N,) x 2.

    None without a positive or without a negative.
    """
    positives, negatives = int(holds.sum()), int((~holds).sum())
    if not positives or not negatives:
        return None
    ranks = rankdata(scores)[holds].sum() - positives * (positives + 1) / 2
    return float(ranks / (positives * negatives))


def calibration_error(scores: Floats, holds: Booleans) -> float | None:
    """Returns the expected calibration error over 15 bins of equal width: (N,) x 2. None without a pair."""
    if not len(scores):
        return None
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    gap = np.bincount(bins, weights=scores, minlength=_BINS) - np.bincount(bins, weights=holds, minlength=_BINS)
    return float(np.abs(gap).sum() / counts.sum())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None

"""How well pairs are judged one by one: average precision by predicate, relatedness, spatial top-1, calibration.

Relations without pixels are partly labelled, so a predicate is scored on the pairs it was asked of. `all pairs` adds
the pairs that nobody annotated, of which nothing is taken to hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.graph.vocabulary import Vocabulary

LEAST_POSITIVES = 10
"""A predicate that holds of fewer pairs is left out of the means: its figure would be luck."""
_BINS = 15


@dataclass
class RelationTally:
    """Collects scores of pairs, and gives the figures.

    vocabulary: of the scores' columns.
    """

    vocabulary: Vocabulary
    _scores: list[NDArray[np.floating]] = field(default_factory=list)
    _holds: list[NDArray[np.bool_]] = field(default_factory=list)
    _asked: list[NDArray[np.bool_]] = field(default_factory=list)
    _annotated: list[NDArray[np.bool_]] = field(default_factory=list)
    _relatedness: list[NDArray[np.floating]] = field(default_factory=list)
    _related: list[NDArray[np.floating]] = field(default_factory=list)

    def add(
        self, scores: NDArray[np.floating], relatedness: NDArray[np.floating], holds: NDArray[np.bool_],
        asked: NDArray[np.bool_], annotated: NDArray[np.bool_], related: NDArray[np.floating],
    ) -> None:  # fmt: skip
        """Adds N pairs: scores, holds and asked (N, R); relatedness, annotated and related (N,), NaN where unknown."""
        self._scores.append(scores)
        self._relatedness.append(relatedness)
        self._holds.append(holds)
        self._asked.append(asked)
        self._annotated.append(annotated)
        self._related.append(related)

    def figures(self) -> dict[str, Any]:
        """`{"predicates": {name: {"ap", "ap_all_pairs", "holds", "asked"}}, "mean": {…}, "related": …, …}`.

        What cannot be measured on these pairs is None.
        """
        scores, holds, asked = (np.concatenate(parts) for parts in (self._scores, self._holds, self._asked))
        annotated, related = np.concatenate(self._annotated), np.concatenate(self._related)
        by_predicate = {}
        for name, column in self.vocabulary.predicate_index.items():
            own = asked[:, column]
            if (positives := int(holds[own, column].sum())) < LEAST_POSITIVES:
                continue
            every = own | ~annotated
            by_predicate[name] = {
                "ap": average_precision(scores[own, column], holds[own, column]),
                "ap_all_pairs": average_precision(scores[every, column], holds[every, column]),
                "holds": positives,
                "asked": int(own.sum()),
            }
        known = ~np.isnan(related)
        return {
            "pairs": {"annotated": int(annotated.sum()), "all": len(annotated)},
            "mean": {name: _mean([each[name] for each in by_predicate.values()]) for name in ("ap", "ap_all_pairs")},
            "related": average_precision(np.concatenate(self._relatedness)[known], related[known] > 0),
            "exclusive_top1": self._top1(scores, holds, asked),
            "ece": calibration_error(scores[asked], holds[asked]),
            "predicates": by_predicate,
        }

    def _top1(
        self, scores: NDArray[np.floating], holds: NDArray[np.bool_], asked: NDArray[np.bool_]
    ) -> dict[str, float]:
        """Of each group that was asked whole: how often its best predicate holds, of pairs of which any does."""
        found = {}
        for group in self.vocabulary.groups:
            columns = self.vocabulary.group_slices[group.name]
            rows = asked[:, columns].all(axis=1) & holds[:, columns].any(axis=1)
            if rows.sum() >= LEAST_POSITIVES:
                best = scores[rows, columns].argmax(axis=1)
                found[group.name] = float(holds[rows, columns][np.arange(len(best)), best].mean())
        return found


def average_precision(scores: NDArray[np.floating], holds: NDArray[np.bool_]) -> float | None:
    """Mean of the precision at each positive, best score first: (N,) x 2. None without a positive."""
    if not holds.any():
        return None
    ranked = holds[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked].mean())


def calibration_error(scores: NDArray[np.floating], holds: NDArray[np.bool_]) -> float | None:
    """Expected calibration error over 15 bins of equal width: (N,) x 2. None without a pair."""
    if not len(scores):
        return None
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    gap = np.bincount(bins, weights=scores, minlength=_BINS) - np.bincount(bins, weights=holds, minlength=_BINS)
    return float(np.abs(gap).sum() / counts.sum())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None

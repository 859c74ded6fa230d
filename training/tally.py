"""Sums of hits over frames, from which the figures of the protocol are made."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


class Tally:
    """Sums over frames of one constraint."""

    def __init__(self, recall_at: Sequence[int], predicates: int) -> None:
        self.recall_at = np.asarray(recall_at, dtype=np.int64)  # (K,)
        self.recall = np.zeros(len(recall_at))
        self.precision = np.zeros(len(recall_at))
        self.found = np.zeros((len(recall_at), predicates), dtype=np.int64)

    def add(self, matches: Booleans, relation_predicates: Integers) -> None:
        """Adds a frame; `matches` (M, C) bool is true where the c-th ranked triplet, C > 0, matches relation m."""
        rank = np.where(matches.any(axis=1), matches.argmax(axis=1), matches.shape[1] + self.recall_at.max())  # (M,)
        found = rank < self.recall_at[:, None]  # (K, M)
        self.recall += found.sum(axis=1) / len(rank)
        for position, relations in enumerate(found):
            self.found[position] += np.bincount(relation_predicates[relations], minlength=self.found.shape[1])
        considered = np.minimum(self.recall_at, matches.shape[1])
        self.precision += np.cumsum(matches.any(axis=0))[considered - 1] / considered

    def figures(self, frames: int, occurrences: Integers) -> dict[str, float]:
        per_predicate = self.found / (occurrences + 1e-10)  # TEMPURA's guard against predicates that never occur
        columns = {"R": self.recall / frames, "mR": per_predicate.mean(axis=1), "P": self.precision / frames}
        return {
            f"{name}@{k}": float(value)
            for name, values in columns.items()
            for k, value in zip(self.recall_at, values, strict=True)
        }

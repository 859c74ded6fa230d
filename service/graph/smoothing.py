"""Scores of pairs, averaged over the frames around each that show the same subject and thing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.graph.columns import Rows, joined, rows_of
from service.graph.detections import Floats, Integers, Pairs

_TIME_TOLERANCE = 1e-6  # s


class PairSmoother:
    """Averages predicate and relation scores of every pair over a window of time around it.

    A mean counts every frame of the window that shows the same subject track and thing track once. Uncertainties stay
    those of the frame. A pair waits until its window is over, so that memory holds a few seconds, not a video. How the
    video is cut changes nothing.
    """

    def __init__(self, seconds: float) -> None:
        """
        seconds: length of the window, half of it before the pair and half after it. 0 changes no score.
        """
        self._reach = seconds / 2 + _TIME_TOLERANCE if seconds else 0.0
        self._known: _Sightings | None = None  # those that wait, and those before them that their windows reach

    def add(self, pairs: Pairs, *, tracks: Integers, times: Floats, until: float) -> Pairs:
        """Takes the pairs of the next frames, and returns those whose window is over.

        tracks: (M, 2) intp, of each pair's subject and thing.
        times: (M,) float64, s, of each pair.
        until: s, of the last of these frames. No later frame is before it.
        """
        known = _Sightings(pairs, tracks, times, np.zeros(len(pairs), np.bool_))
        if self._known is not None:
            known = self._known.followed_by(known)
        if not self._reach:
            self._known = known.of(slice(0, 0))
            return pairs
        over = ~known.is_done & (known.times + self._reach < until)
        # An earlier pair is out of reach of all that wait.
        needed = known.times + 2 * self._reach >= until
        self._known = replace(known, is_done=known.is_done | over).of(needed)
        return known.averaged(over, self._reach)

    def finish(self) -> Pairs:
        """The pairs that still wait. Raises ValueError where nothing was added."""
        if self._known is None:
            raise ValueError("there are no pairs; add those of at least one frame")
        return self._known.averaged(~self._known.is_done, self._reach)


@dataclass(frozen=True)
class _Sightings:
    """M pairs with their tracks (M, 2) and times (M,); `is_done` (M,) is true for those that were handed on."""

    pairs: Pairs
    tracks: Integers
    times: Floats
    is_done: NDArray[np.bool_]

    def of(self, rows: Rows) -> _Sightings:
        """Some of them."""
        return _Sightings(rows_of(self.pairs, rows), self.tracks[rows], self.times[rows], self.is_done[rows])

    def followed_by(self, others: _Sightings) -> _Sightings:
        """These and then others."""
        return _Sightings(
            joined([self.pairs, others.pairs]),
            np.concatenate([self.tracks, others.tracks]),
            np.concatenate([self.times, others.times]),
            np.concatenate([self.is_done, others.is_done]),
        )

    def averaged(self, chosen: NDArray[np.bool_], reach: float) -> Pairs:
        """The chosen pairs with their mean scores."""
        order = np.lexsort((self.times, self.tracks[:, 1], self.tracks[:, 0]))
        along_tracks, rows = self.of(order), np.flatnonzero(chosen[order])
        pairs = along_tracks.pairs
        relations = pairs.relation_scores
        return replace(
            rows_of(pairs, rows),
            predicates=along_tracks._means(pairs.predicates, rows, reach),
            relation_scores=None if relations is None else along_tracks._means(relations[:, None], rows, reach)[:, 0],
        )

    def _means(self, scores: NDArray[np.float32], rows: Integers, reach: float) -> NDArray[np.float32]:
        """Means (K, D) of scores (M, D) around some rows, where all are in order of track and then of time.

        The neighbours of a row are added from near to far, so that a mean is the same to the last bit, whatever else
        is known. A score that is not a number counts as 0.
        """
        scores = np.nan_to_num(scores, nan=0.0)
        sums, counts = scores[rows].astype(np.float64), np.ones((len(rows), 1))
        for direction in (-1, 1):
            neighbours = rows + direction
            while True:
                inside = (neighbours >= 0) & (neighbours < len(self.times))
                there = np.where(inside, neighbours, rows)
                inside &= (self.tracks[there] == self.tracks[rows]).all(axis=1)
                inside &= np.abs(self.times[there] - self.times[rows]) <= reach
                if not inside.any():
                    break
                sums[inside] += scores[there[inside]]
                counts[inside] += 1
                neighbours = neighbours + direction
        return (sums / counts).astype(np.float32)

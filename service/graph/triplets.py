"""Which triplets of the tracked pairs are shown, by the field's constraint modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.graph.bundle import Thresholds
from models.graph.predictions import Array
from models.graph.scene_graph import Constraint
from models.graph.vocabulary import GROUP_SLICE, PREDICATES, runs_from_object
from service.graph.detections import Detections, Floats, Integers, Pairs

# Over this a spatial or contacting predicate holds beside others of its group in the "semi" mode.
SEMI_CONSTRAINT_SCORE = 0.9

_FROM_OBJECT = np.array([runs_from_object(predicate) for predicate in PREDICATES])


@dataclass(frozen=True)
class Candidates:
    """N triplets that may be shown, unless their frame has better ones; small, as whole videos are kept of them.

    people, things    (N,)    int32, rows of the `Detections`
    predicates        (N,)    uint8, indices into `PREDICATES`
    predicate_scores  (N,)    float32
    relation_scores   (N,)    float32, or None where the model has no relation scorer
    uncertainties     (N, 2)  float32, epistemic and aleatoric, or None where the model knows none
    """

    people: NDArray[np.int32]
    things: NDArray[np.int32]
    predicates: NDArray[np.uint8]
    predicate_scores: Array
    relation_scores: Array | None
    uncertainties: Array | None


@dataclass(frozen=True)
class Triplets:
    """N triplets, in order of frame and within a frame best first.

    frames            (N,)    int32
    subjects, objects (N,)    intp, object ids in Action Genome's direction
    predicates        (N,)    uint8, indices into `PREDICATES`
    predicate_scores  (N,)    float32
    relation_scores   (N,)    float32, or None where the model has no relation scorer
    scores            (N,)    float64
    uncertainties     (N, 2)  float32, epistemic and aleatoric, or None where the model knows none
    """

    frames: NDArray[np.int32]
    subjects: Integers
    objects: Integers
    predicates: NDArray[np.uint8]
    predicate_scores: Array
    relation_scores: Array | None
    scores: Floats
    uncertainties: Array | None

    def __len__(self) -> int:
        return len(self.frames)


def find_candidates(
    detections: Detections, pairs: Pairs, *, thresholds: Thresholds, min_score: float, constraint: Constraint
) -> Candidates:
    """The triplets of all pairs that `constraint` allows and that are over all thresholds.

    min_score  least triplet score
    """
    predicates = pairs.predicates.astype(np.float64)  # thresholds are compared at full precision
    scores = predicates * _weights(detections, pairs)[:, None]
    chosen = _allowed(predicates, constraint) & (predicates >= thresholds.predicate_score) & (scores >= min_score)
    if pairs.relation_scores is not None:
        chosen &= (pairs.relation_scores.astype(np.float64) >= thresholds.relation_score)[:, None]
    rows, columns = np.nonzero(chosen)
    return Candidates(
        people=pairs.people[rows].astype(np.int32),
        things=pairs.things[rows].astype(np.int32),
        predicates=columns.astype(np.uint8),
        predicate_scores=pairs.predicates[rows, columns],
        relation_scores=None if pairs.relation_scores is None else pairs.relation_scores[rows],
        uncertainties=None if pairs.uncertainties is None else pairs.uncertainties[rows, columns],
    )


def choose_triplets(candidates: Candidates, detections: Detections, ids: Integers, *, top_k: int) -> Triplets:
    """The best `top_k` triplets of every frame, of those between detections that have an id.

    ids  (N,) intp, of all detections; 0 where one is not to be shown
    """
    scores = candidates.predicate_scores * _weights(detections, candidates)
    people, things, frames = ids[candidates.people], ids[candidates.things], detections.frames[candidates.people]
    # Equal scores are ordered by predicate and ids, so that the same input always gives the same graph.
    rows = np.lexsort((things, people, candidates.predicates, -scores, frames))
    rows = rows[(people[rows] > 0) & (things[rows] > 0)]
    rank = np.arange(len(rows)) - np.searchsorted(frames[rows], frames[rows])
    rows = rows[rank < top_k]
    reversed_ = _FROM_OBJECT[candidates.predicates[rows]]
    return Triplets(
        frames=frames[rows],
        subjects=np.where(reversed_, things[rows], people[rows]),
        objects=np.where(reversed_, people[rows], things[rows]),
        predicates=candidates.predicates[rows],
        predicate_scores=candidates.predicate_scores[rows],
        relation_scores=None if candidates.relation_scores is None else candidates.relation_scores[rows],
        scores=scores[rows],
        uncertainties=None if candidates.uncertainties is None else candidates.uncertainties[rows],
    )


def _weights(detections: Detections, pairs: Pairs | Candidates) -> Floats:
    """What a predicate score is multiplied by, (M,): person score x thing score (x relation score)."""
    weights = detections.scores[pairs.people].astype(np.float64) * detections.scores[pairs.things]
    return weights if pairs.relation_scores is None else weights * pairs.relation_scores


def _allowed(predicates: Floats, constraint: Constraint) -> NDArray[np.bool_]:
    """Which of the 26 predicates of every pair the mode admits, (M, 26)."""
    if constraint == "no":
        return np.ones(predicates.shape, dtype=np.bool_)
    allowed = np.zeros(predicates.shape, dtype=np.bool_)
    every_pair = np.arange(len(predicates))
    for group, columns in GROUP_SLICE.items():
        if constraint == "with" or group == "attention":
            allowed[every_pair, columns.start + predicates[:, columns].argmax(axis=1)] = True
        else:
            allowed[:, columns] = predicates[:, columns] > SEMI_CONSTRAINT_SCORE
    return allowed

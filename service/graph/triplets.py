"""The triplets of the tracked pairs that are shown, by the field's constraint modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.graph.bundle import Scoring, Statements, Thresholds
from models.graph.predictions import Array
from models.graph.scene_graph import Constraint
from models.graph.scoring import join_scores
from models.graph.vocabulary import Vocabulary
from service.graph.columns import rows_of
from service.graph.detections import Detections, Floats, Integers, Pairs

# In the "semi" mode every predicate over this holds, unless those of its group exclude each other.
SEMI_CONSTRAINT_SCORE = 0.9


@dataclass(frozen=True)
class Rules:
    """Rules by which triplets are chosen and ranked.

    vocabulary: of the bundle.
    thresholds: of the bundle.
    scoring: of the bundle.
    statements: of the bundle.
    min_score: least triplet score.
    top_k: most triplets per frame.
    constraint: "with": the best predicate per group and pair. "semi": the best of an exclusive group, and of other
        groups every predicate over 0.9. "no": every predicate.
    """

    vocabulary: Vocabulary
    thresholds: Thresholds
    scoring: Scoring
    statements: Statements
    min_score: float
    top_k: int
    constraint: Constraint


@dataclass(frozen=True)
class Candidates:
    """N triplets that may be shown, unless their frame has better ones. Small, as they are kept for a whole video.

    subjects: (N,) int32, rows of the `Detections`; of the pair, whichever way the triplet reads.
    things: (N,) int32, rows of the `Detections`.
    predicates: (N,) uint16, indices into the vocabulary's predicates.
    says_little: (N,) bool, whether it says little, or scores less than what does.
    predicate_scores: (N,) float32.
    relation_scores: (N,) float32, or None where the model has no relation scorer.
    uncertainties: (N, 2) float32, epistemic and aleatoric, or None where the model knows none.
    """

    subjects: NDArray[np.int32]
    things: NDArray[np.int32]
    predicates: NDArray[np.uint16]
    says_little: NDArray[np.bool_]
    predicate_scores: Array
    relation_scores: Array | None
    uncertainties: Array | None


@dataclass(frozen=True)
class Triplets:
    """N triplets, in order of frame and within a frame best first.

    frames: (N,) int32.
    subjects: (N,) intp, object ids, in the direction of the predicate's group.
    objects: (N,) intp, object ids.
    predicates: (N,) uint16, indices into the vocabulary's predicates.
    predicate_scores: (N,) float32.
    relation_scores: (N,) float32, or None where the model has no relation scorer.
    scores: (N,) float64.
    uncertainties: (N, 2) float32, epistemic and aleatoric, or None where the model knows none.
    """

    frames: NDArray[np.int32]
    subjects: Integers
    objects: Integers
    predicates: NDArray[np.uint16]
    predicate_scores: Array
    relation_scores: Array | None
    scores: Floats
    uncertainties: Array | None

    def __len__(self) -> int:
        return len(self.frames)


def find_candidates(pairs: Pairs, rules: Rules) -> Candidates:
    """The triplets of all pairs that the constraint allows and that are over all thresholds."""
    predicates = pairs.predicates.astype(np.float64)  # thresholds are compared at full precision
    relations = None if pairs.relation_scores is None else pairs.relation_scores.astype(np.float64)[:, None]
    scores = join_scores(pairs.scores[:, None], predicates, relations, rules.scoring)
    little = _says_little(predicates, rules.vocabulary)
    scores = np.where(little, scores * rules.statements.little_weight, scores)
    chosen = _allowed(predicates, rules) & (predicates >= rules.thresholds.predicate_score)
    chosen &= scores >= rules.min_score
    doubtful = scores < rules.thresholds.triplet_score
    doubtful[:, list(rules.vocabulary.predicates_that_say_little)] = False
    chosen &= ~doubtful
    if relations is not None:
        chosen &= relations >= rules.thresholds.relation_score
    rows, columns = np.nonzero(chosen)
    return Candidates(
        subjects=pairs.subjects[rows].astype(np.int32),
        things=pairs.things[rows].astype(np.int32),
        predicates=columns.astype(np.uint16),
        says_little=little[rows, columns],
        predicate_scores=pairs.predicates[rows, columns],
        relation_scores=None if pairs.relation_scores is None else pairs.relation_scores[rows],
        uncertainties=None if pairs.uncertainties is None else pairs.uncertainties[rows, columns],
    )


def choose_triplets(candidates: Candidates, detections: Detections, ids: Integers, rules: Rules) -> Triplets:
    """The best `rules.top_k` triplets of every frame, of those between detections that have an id.

    ids: (N,) intp, of all detections; 0 where one is not to be shown.
    """
    predicates = candidates.predicate_scores.astype(np.float64)
    relations = None if candidates.relation_scores is None else candidates.relation_scores.astype(np.float64)
    pairs = detections.scores[candidates.subjects].astype(np.float64) * detections.scores[candidates.things]
    scores = join_scores(pairs, predicates, relations, rules.scoring)
    scores = np.where(candidates.says_little, scores * rules.statements.little_weight, scores)
    subjects, things = ids[candidates.subjects], ids[candidates.things]
    frames = detections.frames[candidates.subjects]
    # Equal scores are ordered by predicate and ids, so that the same input always gives the same graph.
    rows = np.lexsort((things, subjects, candidates.predicates, -scores, frames))
    rows = rows[(subjects[rows] > 0) & (things[rows] > 0)]
    rank = np.arange(len(rows)) - np.searchsorted(frames[rows], frames[rows])
    rows = rows[rank < rules.top_k]
    runs_from_object = np.array([group.runs_from_object for group in rules.vocabulary.groups for _ in group.predicates])
    reversed_ = runs_from_object[candidates.predicates[rows]]
    return Triplets(
        frames=frames[rows],
        subjects=np.where(reversed_, things[rows], subjects[rows]),
        objects=np.where(reversed_, subjects[rows], things[rows]),
        predicates=candidates.predicates[rows],
        predicate_scores=candidates.predicate_scores[rows],
        relation_scores=None if candidates.relation_scores is None else candidates.relation_scores[rows],
        scores=scores[rows].astype(np.float64),
        uncertainties=None if candidates.uncertainties is None else candidates.uncertainties[rows],
    )


def keep_lasting(triplets: Triplets, least_frames: int) -> Triplets:
    """Those whose subject, predicate and object so many frames show at least."""
    if least_frames < 2 or not len(triplets):
        return triplets
    numbers = triplets.objects.max() + 1
    predicates = int(triplets.predicates.max()) + 1
    statements = (triplets.subjects * numbers + triplets.objects) * predicates + triplets.predicates
    _, which, counts = np.unique(statements, return_inverse=True, return_counts=True)
    return rows_of(triplets, counts[which] >= least_frames)


def _says_little(predicates: Floats, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """The predicates of every pair that say little, or score less than one of their group that does, (M, R).

    Where "does not touch" scores best, a touch below it is not meant.
    """
    little = np.zeros(predicates.shape, dtype=np.bool_)
    little[:, list(vocabulary.predicates_that_say_little)] = True
    for columns in vocabulary.group_slices.values():
        best = np.where(little[:, columns], predicates[:, columns], -1.0).max(axis=1, keepdims=True)
        little[:, columns] |= predicates[:, columns] < best
    return little


def _allowed(predicates: Floats, rules: Rules) -> NDArray[np.bool_]:
    """The predicates of every pair that the constraint admits, (M, R)."""
    if rules.constraint == "no":
        return np.ones(predicates.shape, dtype=np.bool_)
    allowed = np.zeros(predicates.shape, dtype=np.bool_)
    every_pair = np.arange(len(predicates))
    for group in rules.vocabulary.groups:
        columns = rules.vocabulary.group_slices[group.name]
        if rules.constraint == "with" or group.exclusive:
            allowed[every_pair, columns.start + predicates[:, columns].argmax(axis=1)] = True
        else:
            allowed[:, columns] = predicates[:, columns] > SEMI_CONSTRAINT_SCORE
    return allowed

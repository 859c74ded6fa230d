"""Which triplets of the tracked pairs are shown, by the field's constraint modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.scene_graph import Constraint
from models.vocabulary import GROUP_SLICE, PREDICATES, runs_from_object
from service.graph.detections import Floats, Integers, Pairs

# Over this a spatial or contacting predicate holds beside others of its group in the "semi" mode.
SEMI_CONSTRAINT_SCORE = 0.9

_FROM_OBJECT = np.array([runs_from_object(predicate) for predicate in PREDICATES])


@dataclass(frozen=True)
class Triplets:
    """N triplets, in order of frame and within a frame best first.

    frames            (N,)    intp
    subjects, objects (N,)    intp, object ids in Action Genome's direction
    predicates        (N,)    intp, indices into `PREDICATES`
    predicate_scores  (N,)    float64
    relation_scores   (N,)    float64, or None where the model has no relation scorer
    scores            (N,)    float64
    uncertainties     (N, 2)  float64, epistemic and aleatoric, or None where the model knows none
    """

    frames: Integers
    subjects: Integers
    objects: Integers
    predicates: Integers
    predicate_scores: Floats
    relation_scores: Floats | None
    scores: Floats
    uncertainties: Floats | None

    def __len__(self) -> int:
        return len(self.frames)


def choose_triplets(
    pairs: Pairs,
    *,
    frames: Integers,
    person_ids: Integers,
    thing_ids: Integers,
    pair_scores: Floats,
    predicate_score: float,
    relation_score: float,
    min_score: float,
    top_k: int,
    constraint: Constraint,
) -> Triplets:
    """The triplets of M pairs: chosen by `constraint`, over all thresholds, the best `top_k` of every frame.

    frames, person_ids, thing_ids  (M,) intp
    pair_scores                    (M,) float64, score of the person x score of the thing
    predicate_score, min_score     least predicate score and least triplet score
    relation_score                 least relation score of the pair, where the model has a relation scorer
    """
    weights = pair_scores if pairs.relation_scores is None else pair_scores * pairs.relation_scores
    scores = pairs.predicates * weights[:, None]  # (M, 26)
    chosen = _allowed(pairs.predicates, constraint) & (pairs.predicates >= predicate_score) & (scores >= min_score)
    if pairs.relation_scores is not None:
        chosen &= (pairs.relation_scores >= relation_score)[:, None]
    rows, predicates = np.nonzero(chosen)
    # Equal scores are ordered by predicate and ids, so that the same input always gives the same graph.
    order = np.lexsort((thing_ids[rows], person_ids[rows], predicates, -scores[rows, predicates], frames[rows]))
    rows, predicates = rows[order], predicates[order]
    of_frame = frames[rows]
    rank = np.arange(len(rows)) - np.searchsorted(of_frame, of_frame)
    rows, predicates = rows[rank < top_k], predicates[rank < top_k]
    reversed_ = _FROM_OBJECT[predicates]
    return Triplets(
        frames=frames[rows],
        subjects=np.where(reversed_, thing_ids[rows], person_ids[rows]),
        objects=np.where(reversed_, person_ids[rows], thing_ids[rows]),
        predicates=predicates,
        predicate_scores=pairs.predicates[rows, predicates],
        relation_scores=None if pairs.relation_scores is None else pairs.relation_scores[rows],
        scores=scores[rows, predicates],
        uncertainties=None if pairs.uncertainties is None else pairs.uncertainties[rows, predicates],
    )


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

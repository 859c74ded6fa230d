"""The product of a triplet's scores, as the service and evaluation both compute it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.graph.bundle import Scoring

Floats = NDArray[np.float64]

_LEAST = 1e-12
"""Distance that sharpened probabilities keep from 0 and 1, so that their odds are finite."""


def join_scores(pairs: Floats, predicates: Floats, relations: Floats | None, scoring: Scoring) -> Floats:
    """Returns triplet scores: pair x sharpened predicate x relation^relation_exponent.

    All arrays broadcast against each other.

    pairs: float64, subject score x object score of each pair.
    predicates: float64, predicate scores in [0, 1].
    relations: float64, relation scores in [0, 1]; None where the model has no relation scorer.
    scoring: the bundle's. Its defaults leave every factor as it is, to the last bit.
    """
    scores = pairs * sharpen(predicates, scoring.predicate_temperature)
    if relations is None or scoring.relation_exponent == 0:
        return scores
    return scores * (relations if scoring.relation_exponent == 1 else relations**scoring.relation_exponent)


def sharpen(probabilities: Floats, temperature: float) -> Floats:
    """Raises the odds of probabilities to a power: sigmoid(temperature x logit(p)). 0 and 1 stay as they are."""
    if temperature == 1:
        return probabilities
    kept = np.clip(probabilities, _LEAST, 1 - _LEAST)
    # The logarithm of the odds, because a high power of the odds themselves would overflow.
    sharpened = 1 / (1 + np.exp(np.clip(temperature * (np.log1p(-kept) - np.log(kept)), -700, 700)))
    return np.where(probabilities <= 0, 0.0, np.where(probabilities >= 1, 1.0, sharpened))

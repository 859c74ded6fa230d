"""Constant shifts of predicate scores."""

import pytest
import torch

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.relations.prior_shift import PriorShift

COLUMNS = ACTION_GENOME.predicate_index


def test_a_shift_of_the_logit_multiplies_the_odds() -> None:
    scores = torch.full((len(COLUMNS),), 0.5)
    found = PriorShift(ACTION_GENOME, {"holding": -1.0})(scores)
    assert found[COLUMNS["holding"]] == pytest.approx(1 / (1 + 2.718282), abs=1e-4)
    assert found[COLUMNS["eating"]] == pytest.approx(0.5)


def test_what_is_certain_stays_certain() -> None:
    certain = torch.tensor([0.0, 1.0] * 13)
    assert torch.equal(PriorShift(ACTION_GENOME, {"looking_at": 2.0})(certain), certain)


def test_a_predicate_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="prior_shifts has 'juggling'"):
        PriorShift(ACTION_GENOME, {"juggling": 1.0})

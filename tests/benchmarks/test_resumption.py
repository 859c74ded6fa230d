"""A training run that is killed at random moments, for long: `make bench`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.resumption import survive


@pytest.mark.bench
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_is_killed_at_random_moments_ends_as_one_that_is_not(tmp_path: Path, processes: int) -> None:
    tally = survive(tmp_path, 10, processes, random.Random(processes))
    assert tally.kills == 10
    assert tally.saving > 0, "some of them while a state was saved"

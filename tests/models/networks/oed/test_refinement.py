"""The reference frames of OED's temporal module."""

from __future__ import annotations

import pytest
import torch

from models.networks.oed.refinement import reference_frames
from tests.support.oed import expected_references


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_reference_frames_are_those_of_the_official_evaluation(count: int) -> None:
    for time in range(1, 16):
        wanted = [expected_references(time, number, count) for number in range(time)]
        assert torch.equal(reference_frames(time, count, 4), torch.tensor(wanted))

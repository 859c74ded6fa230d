"""A detector whose weights react, and frames on which it finds nobody, few things or more than fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from export.check import sample_frames
from models.networks.detectors import Detector
from models.networks.relations.pairs import Pairs
from tests.support.networks import make_lively, tiny_detector


@pytest.fixture(scope="session")
def detector() -> Detector:
    return make_lively(tiny_detector())


@pytest.fixture(scope="session")
def frames() -> Tensor:
    """(2, 8, 64, 64, 3) uint8."""
    return torch.from_numpy(sample_frames(np.random.default_rng(5), 2, 8, 64, 64))


@pytest.fixture(scope="session")
def timestamps() -> Tensor:
    return torch.arange(16).reshape(2, 8) / 2


@pytest.fixture(scope="session")
def found(detector: Detector, frames: Tensor, timestamps: Tensor) -> Pairs:
    with torch.inference_mode():
        return detector.pairs(frames, timestamps)

"""A puppet set small enough to make in a test, and what a tiny run on it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from models.networks.checkpoint import save_checkpoint
from tests.support.networks import make_lively, tiny, tiny_detector, tiny_relations
from training.configuration import TrainingConfig
from training.data.puppets.dataset import write_dataset
from training.data.puppets.world import EASY

FRAMES_PER_VIDEO = 4


@pytest.fixture(scope="session")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and two test videos of 64 x 64, laid out as Action Genome is."""
    root = tmp_path_factory.mktemp("puppets")
    world = replace(EASY, name="tiny", width=64, height=64)
    write_dataset(root, world, train_videos=8, test_videos=2, frames_per_video=FRAMES_PER_VIDEO, seed=5, processes=1)
    return root


@pytest.fixture(scope="session")
def settings(puppets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Keys of a training configuration that runs in seconds; `output` is missing."""
    text = tmp_path_factory.mktemp("text") / "text.npy"
    np.save(text, np.random.default_rng(0).normal(size=(37, 26, 16)).astype(np.float32))
    return {
        "name": "tiny",
        "data": str(puppets),
        "model": asdict(tiny()),
        "seed": 3,
        "steps": 6,
        "batch_size": 4,
        "small_objects": "keep",
        "learning_rate": 1e-3,
        "clip_gradient_norm": 5.0,
        "text_embeddings": str(text),
    }


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a detector that finds something, if not what is there."""
    path = tmp_path_factory.mktemp("detector") / "checkpoint.pt"
    save_checkpoint(path, make_lively(tiny_detector()), {})
    return path


@pytest.fixture
def configure(settings: dict[str, Any], tmp_path: Path) -> Callable[..., TrainingConfig]:
    """A run of ARN, `changes` apart."""

    def make(**changes: Any) -> TrainingConfig:
        return TypeAdapter(TrainingConfig).validate_python({**settings, "output": tmp_path / "run", **changes})

    return make


@pytest.fixture
def configure_relations(configure: Callable[..., TrainingConfig], detector: Path) -> Callable[..., TrainingConfig]:
    """A run of three steps of a relation network by its name in `RELATION_CONFIGS`, `changes` apart."""

    def make(name: str = "sttran", **changes: Any) -> TrainingConfig:
        usual = {"detector": detector, "steps": 3, "batch_size": 2, "clip_length": 3}
        return configure(**{"model": asdict(tiny_relations(name)), **usual, **changes})

    return make

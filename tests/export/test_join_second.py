"""`vsg join --second`: a bundle that sees with two detectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto

from export import onnx as onnx_export
from export.check import sample_frames
from export.detectors.opening import Flags
from export.detectors.sources import open_source
from export.join_command import join
from models.graph.bundle import Bundle
from models.networks.checkpoint import save_checkpoint
from models.networks.detectors.ssdlite import SsdLite, SsdLiteConfig
from tests.conftest import serve
from tests.support.detectors import NAMES, SIZE, write_fixed_detector
from tests.support.networks import make_lively, tiny_detector, tiny_layout
from tests.support.videos import write_frames

NUMBERS = ("--pairs", "6", "--persons", "2", "--things", "4", "--least-score", "0.01", "--object-score", "0")


def write_detector(path: Path, seed: int, title: str, data: str, **changes: Any) -> Path:
    """A checkpoint of a detector whose weights, exact in half precision, are said to be published."""
    network = make_lively(tiny_detector(**changes), seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(weight.half().float())
    published = {"title": title, "sha256": str(seed) * 64, "origin": "somewhere", "licence": "Apache-2.0"}
    save_checkpoint(path, network, {"data": data, "published": published})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a layout network and two detectors, and a detector in ONNX."""
    folder = tmp_path_factory.mktemp("second")
    save_checkpoint(folder / "layout.pt", tiny_layout(), {"data": "made up"})
    write_detector(folder / "first.pt", 1, "First", "photographs")
    write_detector(folder / "second.pt", 2, "Second", "other photographs")
    inputs = {"images": (TensorProto.FLOAT, (1, 3, SIZE, SIZE))}
    outputs = {
        "boxes": np.array([[[1, 1, 9, 9]]], np.float32),
        "scores": np.array([[0.9]], np.float32),
        "labels": np.array([[0]]),
    }
    write_fixed_detector(folder / "detector.onnx", inputs, outputs, names=str(list(NAMES)))
    return folder


def run(folder: Path, first: str, second: str, out: Path, *arguments: str) -> Any:
    given = [folder / first, folder / "layout.pt", out, "--second", folder / second, *NUMBERS, *arguments]
    return CliRunner().invoke(join, [str(argument) for argument in given])


@pytest.fixture(scope="module")
def bundle(folder: Path, relations_once: Callable[..., None]) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_write", relations_once)
        result = run(folder, "first.pt", "second.pt", folder / "both")
    assert result.exit_code == 0, result.output
    return Bundle.load(folder / "both")


def test_weights_and_data_of_both_are_in_the_manifest(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert [(weights.name, weights.sha256) for weights in manifest.weights] == [
        ("First", "1" * 64),
        ("Second", "2" * 64),
    ]
    assert "photographs, other photographs" in manifest.training.data


def test_weights_that_are_exact_in_half_precision_are_stored_so(bundle: Bundle) -> None:
    stored = onnx.load(str(bundle.folder / "detector.onnx")).graph.initializer
    large = [weight.data_type for weight in stored if math.prod(weight.dims) >= 1024]
    assert large.count(TensorProto.FLOAT16) >= 4, "kernels of both detectors"


def test_it_is_served(bundle: Bundle, tmp_path: Path) -> None:
    frames = sample_frames(np.random.default_rng(3), 1, 8, SIZE, SIZE)[0]
    video = write_frames(tmp_path / "noise.mp4", frames)
    with serve(tmp_path / "data", bundles=(bundle.folder,)) as server:
        answer = server.post(video, data={"fps": "4"})
    assert answer.status_code == 200, answer.text
    graph = answer.json()
    assert graph["model"]["name"] == "both"
    assert len(graph["frames"]) == 8
    assert any(frame["triplets"] for frame in graph["frames"])


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("detector.onnx", "second.pt", "DETECTOR is an ONNX file"),
        ("first.pt", "detector.onnx", "detector.onnx is an ONNX file"),
        ("first.pt", "layout.pt", "must be an object detector"),
        ("first.pt", "nothing.pt", "torchvision:NAME"),
    ],
)
def test_what_cannot_be_a_second_detector_is_refused(
    folder: Path, tmp_path: Path, first: str, second: str, words: str
) -> None:
    result = run(folder, first, second, tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert words in result.output
    assert not (tmp_path / "out").exists()


def test_an_onnx_detector_beside_a_second_is_refused_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    said = run(folder, "first.pt", "detector.onnx", tmp_path / "out").output
    assert "--second fuses detectors in torch only" in said
    assert "give a checkpoint (`vsg import`) or torchvision:NAME for both, or leave it out" in said


def test_detectors_for_frames_of_other_sizes_are_refused(folder: Path, tmp_path: Path) -> None:
    write_detector(tmp_path / "wide.pt", 3, "Wide", "photographs", frame_width=128)
    result = run(folder, "first.pt", str(tmp_path / "wide.pt"), tmp_path / "out")
    assert result.exit_code == 1
    assert "frames of 64x64 and 128x64: import them for frames of one size" in result.output


def test_numbers_of_fusing_are_settings(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("fusing:\n  weight: 2\n")
    result = run(folder, "first.pt", "second.pt", tmp_path / "out", "--settings", str(tmp_path / "settings.yaml"))
    assert result.exit_code == 1
    assert "fusing.weight is 2" in result.output


def test_a_checkpoint_of_ssdlite_may_be_the_detector(tmp_path: Path) -> None:
    published = {"title": "SSDLite", "sha256": "0" * 64, "origin": "somewhere", "licence": "Apache-2.0"}
    network = SsdLite(SsdLiteConfig(frame_height=SIZE, frame_width=96))
    save_checkpoint(tmp_path / "ssdlite.pt", network, {"data": "COCO", "published": published})
    opened = open_source(str(tmp_path / "ssdlite.pt"), None, Flags())
    assert isinstance(opened.detector, SsdLite)
    assert (opened.detector.names[0], opened.detector.frame_size) == ("person", (SIZE, 96))
    assert (opened.data, [weights.name for weights in opened.weights]) == ("COCO", ["SSDLite"])


def test_detectors_of_other_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "ssdlite.pt", SsdLite(SsdLiteConfig(frame_height=SIZE, frame_width=SIZE)), {})
    result = run(folder, "first.pt", str(tmp_path / "ssdlite.pt"), tmp_path / "out")
    assert result.exit_code == 1
    assert "the two detectors have different classes" in result.output

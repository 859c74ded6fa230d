"""Reads TensorFlow Lite files: tensors, dequantised weights and operations in the order that they run in.

The numbers of fields and codes are those of TensorFlow Lite's schema (tensorflow/lite/schema/schema.fbs).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import WeightsError
from models.networks.tflite.flatbuffer import Table

_IDENTIFIER = b"TFL3"
_DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 6: "?", 7: "<i2", 9: "i1"}
_INTEGERS = {"u1", "i1", "<i2", "<i4"}
"""Types whose values stand for floats where the file gives them a scale."""
_KINDS = {
    0: "ADD",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    14: "LOGISTIC",
    17: "MAX_POOL_2D",
    22: "RESHAPE",
    23: "RESIZE_BILINEAR",
    34: "PAD",
    97: "RESIZE_NEAREST_NEIGHBOR",
    114: "QUANTIZE",
}
"""The operations that `TfliteGraph` runs, by code."""
_OPTIONS: dict[str, tuple[tuple[str, str, int], ...]] = {
    "ADD": (("activation", "b", 0),),
    "CONCATENATION": (("axis", "i", 0), ("activation", "b", 0)),
    "CONV_2D": (
        ("padding", "b", 0),
        ("stride_w", "i", 0),
        ("stride_h", "i", 0),
        ("activation", "b", 0),
        ("dilation_w", "i", 1),
        ("dilation_h", "i", 1),
    ),
    "DEPTHWISE_CONV_2D": (
        ("padding", "b", 0),
        ("stride_w", "i", 0),
        ("stride_h", "i", 0),
        ("multiplier", "i", 0),
        ("activation", "b", 0),
        ("dilation_w", "i", 1),
        ("dilation_h", "i", 1),
    ),
    "MAX_POOL_2D": (
        ("padding", "b", 0),
        ("stride_w", "i", 0),
        ("stride_h", "i", 0),
        ("filter_w", "i", 0),
        ("filter_h", "i", 0),
        ("activation", "b", 0),
    ),
    "RESIZE_BILINEAR": (
        ("new_height", "i", 0),
        ("new_width", "i", 0),
        ("align_corners", "b", 0),
        ("half_pixel_centers", "b", 0),
    ),
    "RESIZE_NEAREST_NEIGHBOR": (("align_corners", "b", 0), ("half_pixel_centers", "b", 0)),
}
"""Options of an operation: name, `struct` letter and default, in the order of the schema."""


@dataclass(frozen=True)
class TfliteTensor:
    """One tensor of a file.

    shape: as the file has it, channels last.
    values: what the file stores, None for what is computed. Quantised weights are float32.
    scale: of quantised values that are computed, such as a uint8 input: float = (stored - zero_point) * scale.
        0 where they are floats.
    zero_point: the stored value that stands for 0.
    """

    name: str
    shape: tuple[int, ...]
    values: NDArray[Any] | None
    scale: float
    zero_point: int


@dataclass(frozen=True)
class TfliteOperation:
    """One operation.

    kind: its name in TensorFlow Lite's schema, such as `CONV_2D`.
    inputs: numbers of the tensors that it reads, -1 for one that is left out.
    outputs: numbers of the tensors that it writes.
    options: its options by name, as numbers.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, int]


@dataclass(frozen=True)
class TfliteModel:
    """A file's graph.

    tensors: all tensors; the numbers below are places in it.
    inputs: numbers of the tensors that the graph takes.
    outputs: numbers of the tensors that it gives.
    operations: in the order that they run in.
    """

    tensors: tuple[TfliteTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operations: tuple[TfliteOperation, ...]

    def giving(self, outputs: tuple[int, ...]) -> TfliteModel:
        """Returns the part of the graph that computes these outputs."""
        needed, kept = set(outputs), list[TfliteOperation]()
        for operation in reversed(self.operations):
            if needed & {*operation.outputs}:
                needed |= {*operation.inputs}
                kept.insert(0, operation)
        return replace(self, outputs=outputs, operations=tuple(kept))


def read_tflite(path: Path) -> TfliteModel:
    """Reads a file. Raises WeightsError where it cannot be read, is no TensorFlow Lite file or is damaged."""
    try:
        return parse_tflite(path.read_bytes(), str(path))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def parse_tflite(data: bytes, name: str) -> TfliteModel:
    """Parses the content of a file.

    Raises WeightsError where it is no TensorFlow Lite file, is damaged, or has an operation that is not known here.

    name: what errors call it.
    """
    if data[4:8] != _IDENTIFIER:
        raise WeightsError(f"{name} is not a TensorFlow Lite file: bytes 4 to 7 are {data[4:8]!r}, not {_IDENTIFIER!r}")
    try:
        return _parse(Table.root(data), name)
    except (struct.error, ValueError, LookupError, OverflowError) as error:
        raise WeightsError(f"{name} is a damaged TensorFlow Lite file: {error}") from error


def _parse(root: Table, name: str) -> TfliteModel:
    buffers = root.tables(4)
    # Codes over 127 stand in a field of their own, beside a lower bound in the older, narrower one.
    codes = [max(code.number(0, "b"), code.number(3, "i")) for code in root.tables(1)]
    graph = root.tables(2)[0]
    tensors = tuple(_tensor(table, buffers, name) for table in graph.tables(0))
    operations = tuple(_operation(table, codes, name) for table in graph.tables(3))
    inputs, outputs = _numbers(graph, 1), _numbers(graph, 2)
    used = {number for each in operations for number in (*each.inputs, *each.outputs)} | {*inputs, *outputs}
    if used and not -1 <= min(used) <= max(used) < len(tensors):
        raise ValueError(f"it refers to tensor {max(used)} of {len(tensors)}")
    return TfliteModel(tensors, inputs, outputs, operations)


def _tensor(table: Table, buffers: list[Table], name: str) -> TfliteTensor:
    label, code = table.text(3), table.number(1, "b")
    if code not in _DTYPES:
        raise WeightsError(f"{name}: tensor {label!r} is of type {code}, which is not read: convert the file to floats")
    if table.table(6) is not None:
        raise WeightsError(f"{name}: tensor {label!r} is sparse, which is not read: convert the file to dense weights")
    shape, dtype = tuple(int(side) for side in table.array(0, "<i4")), _DTYPES[code]
    stored = buffers[table.number(2, "I")].array(0, "u1").tobytes()
    values = np.frombuffer(stored, dtype).reshape(shape) if stored else None
    quantization = table.table(4)
    scales = np.zeros(0, "<f4") if quantization is None else quantization.array(2, "<f4")
    if dtype not in _INTEGERS or not scales.size or quantization is None:
        return TfliteTensor(label, shape, values, 0.0, 0)
    zeros = quantization.array(3, "<i8")
    zeros = zeros if zeros.size else np.zeros(scales.size, "<i8")
    if values is not None:
        values = _dequantise(values, scales, zeros, quantization.number(6, "i"))
    return TfliteTensor(label, shape, values, float(scales[0]), int(zeros[0]))


def _dequantise(values: NDArray[Any], scales: NDArray[Any], zeros: NDArray[Any], axis: int) -> NDArray[Any]:
    """Turns stored integers into float32, with one scale in all or one for each place along an axis."""
    along = [1] * values.ndim
    if scales.size > 1:
        along[axis] = scales.size
    floats: NDArray[np.float32] = (values - zeros.reshape(along)) * scales.astype(np.float64).reshape(along)
    return floats.astype(np.float32)


def _operation(table: Table, codes: list[int], name: str) -> TfliteOperation:
    code = codes[table.number(0, "I")]
    if code not in _KINDS:
        raise WeightsError(f"{name} has operation {code} of TensorFlow Lite's schema: known are {_known()}")
    kind, options = _KINDS[code], table.table(4)
    known = {
        option: default if options is None else options.number(field, letter, default)
        for field, (option, letter, default) in enumerate(_OPTIONS.get(kind, ()))
    }
    return TfliteOperation(kind, _numbers(table, 1), _numbers(table, 2), known)


def _numbers(table: Table, field: int) -> tuple[int, ...]:
    return tuple(int(number) for number in table.array(field, "<i4"))


def _known() -> str:
    return ", ".join(sorted(_KINDS.values()))

"""Writes TensorFlow Lite files, with nothing but `struct`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Fields = Mapping[int, Any]
"""A table: field number to (`struct` letter, number), another table, a list of tables, an array or a string."""

CODES = {
    "ADD": 0, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "DEQUANTIZE": 6, "LOGISTIC": 14,
    "MAX_POOL_2D": 17, "RESHAPE": 22, "RESIZE_BILINEAR": 23, "PAD": 34, "TANH": 28, "RESIZE_NEAREST_NEIGHBOR": 97,
    "QUANTIZE": 114,
}  # fmt: skip
_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9}
NONE, RELU, RELU6 = 0, 1, 3
SAME, VALID = 0, 1


def flatbuffer(root: Fields, identifier: bytes) -> bytes:
    """Serialises tables, each before what it points to."""
    data = bytearray(struct.pack("<I4s", 0, identifier))
    struct.pack_into("<I", data, 0, _put_table(data, root))
    return bytes(data)


def _put_table(data: bytearray, fields: Fields) -> int:
    known = {number: value for number, value in fields.items() if value is not None}
    count = max(known, default=-1) + 1
    vtable = len(data)
    data += bytes(4 + 2 * count)
    _align(data, 8)
    table = len(data)
    data += struct.pack("<i", table - vtable)
    places = {}
    for number, value in known.items():
        letter, content = value if isinstance(value, tuple) else ("I", 0)
        _align(data, struct.calcsize(letter))
        places[number] = len(data)
        data += struct.pack(f"<{letter}", content)
    offsets = [places[number] - table if number in places else 0 for number in range(count)]
    struct.pack_into(f"<HH{count}H", data, vtable, 4 + 2 * count, len(data) - table, *offsets)
    for number, value in known.items():
        if not isinstance(value, tuple):
            struct.pack_into("<I", data, places[number], _put(data, value) - places[number])
    return table


def _put(data: bytearray, value: Any) -> int:
    """Writes what a field points to. Returns its position."""
    if isinstance(value, Mapping):
        return _put_table(data, value)
    if isinstance(value, list):
        _align(data, 4)
        start = len(data)
        data += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for number, each in enumerate(value):
            place = start + 4 + 4 * number
            struct.pack_into("<I", data, place, _put_table(data, each) - place)
        return start
    array = np.frombuffer(value.encode(), "u1") if isinstance(value, str) else np.asarray(value)
    data += bytes(-(len(data) + 4) % 16)
    start = len(data)
    data += struct.pack("<I", array.size) + array.tobytes() + bytes(1)
    return start


def _align(data: bytearray, size: int) -> None:
    data += bytes(-len(data) % size)


class TfliteWriter:
    """Collects the tensors and operations of a graph. Tensors go by their numbers."""

    def __init__(self) -> None:
        self._tensors: list[Fields] = []
        self._buffers: list[Fields] = [{}]
        self._operations: list[Fields] = []
        self._codes: list[str] = []
        self._shapes: list[tuple[int, ...]] = []

    def tensor(self, shape: tuple[int, ...], dtype: str = "float32", **quantization: Any) -> int:
        """Adds a tensor that is computed or given."""
        return self._add(shape, dtype, None, quantization)

    def constant(self, values: NDArray[Any], **quantization: Any) -> int:
        """Adds a tensor that the file stores. quantization: `scale`, `zero_point` and `axis` of its values."""
        return self._add(values.shape, str(values.dtype), values, quantization)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._shapes[tensor]

    def run(self, kind: str, inputs: list[int], shape: tuple[int, ...], options: Fields | None = None) -> int:
        """Adds an operation. Returns its output."""
        output = self.tensor(shape)
        if kind not in self._codes:
            self._codes.append(kind)
        fields = {0: ("I", self._codes.index(kind)), 1: np.array(inputs, "<i4"), 2: np.array([output], "<i4")}
        self._operations.append(fields if options is None else {**fields, 3: ("B", 1), 4: options})
        return output

    def conv(self, images: int, layer: nn.Conv2d, activation: int = NONE, padding: int = SAME) -> int:
        """Adds a convolution with float32 weights."""
        deep = layer.groups > 1
        weight = layer.weight.detach().numpy().transpose((1, 2, 3, 0) if deep else (0, 2, 3, 1))
        assert isinstance(layer.bias, Tensor)
        weights = [self.constant(np.ascontiguousarray(weight)), self.constant(layer.bias.detach().numpy())]
        count, height, width, _ = self.shape(images)
        (step, _), kernel = layer.stride, layer.kernel_size[0]
        spare = kernel - 1 if padding == VALID else 0
        shape = (count, -(-(height - spare) // step), -(-(width - spare) // step), layer.out_channels)
        options = {0: ("b", padding), 1: ("i", step), 2: ("i", step)}
        options |= {3: ("i", 1), 4: ("b", activation)} if deep else {3: ("b", activation)}
        return self.run("DEPTHWISE_CONV_2D" if deep else "CONV_2D", [images, *weights], shape, options)

    def add(self, first: int, second: int, activation: int = NONE) -> int:
        """Adds a sum."""
        return self.run("ADD", [first, second], self.shape(first), {0: ("b", activation)})

    def pool(self, images: int, kernel: int, step: int, padding: int = SAME) -> int:
        """Adds a maximum over kernel x kernel."""
        count, height, width, channels = self.shape(images)
        options = {0: ("b", padding), 1: ("i", step), 2: ("i", step), 3: ("i", kernel), 4: ("i", kernel)}
        return self.run("MAX_POOL_2D", [images], (count, -(-height // step), -(-width // step), channels), options)

    def nearest(self, images: int, like: int) -> int:
        """Adds a resize to the rows and columns of another tensor."""
        count, _, _, channels = self.shape(images)
        rows, columns = self.shape(like)[1:3]
        size = self.constant(np.array([rows, columns], "int32"))
        return self.run("RESIZE_NEAREST_NEIGHBOR", [images, size], (count, rows, columns, channels), {})

    def pad(self, images: int, around: int) -> int:
        """Adds zeros on all four sides of images."""
        count, height, width, channels = self.shape(images)
        sides = self.constant(np.array([[0, 0], [around, around], [around, around], [0, 0]], "int32"))
        return self.run("PAD", [images, sides], (count, height + 2 * around, width + 2 * around, channels))

    def reshape(self, values: int, shape: tuple[int, ...]) -> int:
        """Adds a reshape."""
        return self.run("RESHAPE", [values, self.constant(np.array(shape, "int32"))], shape)

    def join(self, values: list[int], axis: int) -> int:
        """Adds a concatenation."""
        shape = list(self.shape(values[0]))
        shape[axis] = sum(self.shape(each)[axis] for each in values)
        return self.run("CONCATENATION", values, tuple(shape), {0: ("i", axis)})

    def file(self, inputs: list[int], outputs: list[int]) -> bytes:
        """Returns the file."""
        graph = {
            0: self._tensors, 1: np.array(inputs, "<i4"), 2: np.array(outputs, "<i4"), 3: self._operations
        }  # fmt: skip
        codes = [{0: ("b", min(CODES[kind], 127)), 3: ("i", CODES[kind])} for kind in self._codes]
        return flatbuffer({0: ("I", 3), 1: codes, 2: [graph], 4: self._buffers}, b"TFL3")

    def _add(
        self, shape: tuple[int, ...], dtype: str, values: NDArray[Any] | None, quantization: Mapping[str, Any]
    ) -> int:
        fields = {0: np.array(shape, "<i4"), 1: ("b", _TYPES[dtype]), 3: f"tensor {len(self._tensors)}"}
        if values is not None:
            fields[2] = ("I", len(self._buffers))
            self._buffers.append({0: np.frombuffer(values.tobytes(), "u1")})
        if quantization:
            scales, zeros = np.atleast_1d(quantization["scale"]), np.atleast_1d(quantization["zero_point"])
            axis = ("i", quantization.get("axis", 0))
            fields[4] = {2: scales.astype("<f4"), 3: zeros.astype("<i8"), 6: axis}
        self._tensors.append(fields)
        self._shapes.append(shape)
        return len(self._tensors) - 1

"""The inputs of ONNX detectors: the picture, its size and its numbers, and what some detectors take beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.errors import ExportError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PICTURE_TYPES = (TensorProto.UINT8, TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Picture:
    """The input that takes frames.

    name: name of the input.
    kind: ONNX's number of its type.
    channels_last: whether the channels come last.
    has_batch: whether its first axis is the batch.
    any_batch: whether the batch may have any size.
    size: height and width in pixels.
    """

    name: str
    kind: int
    channels_last: bool
    has_batch: bool
    any_batch: bool
    size: tuple[int, int]


@dataclass(frozen=True)
class Normalisation:
    """The numbers that an input takes for pixels: (value x scale / 255 - mean) / std of each channel."""

    scale: float = 255.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    bgr: bool = False

    def __str__(self) -> str:
        words = f"{'BGR' if self.bgr else 'RGB'}, white is {self.scale:g}"
        if any(self.mean) or set(self.std) != {1.0}:
            words += f", mean {_listed(self.mean)}, std {_listed(self.std)}"
        return words


def normalise(frames: NDArray[np.uint8], normalisation: Normalisation, picture: Picture) -> NDArray[Any]:
    """Returns frames (N, H, W, 3) uint8 RGB as the detector takes them, with a batch axis."""
    pixels: NDArray[Any] = frames[..., ::-1] if normalisation.bgr else frames
    if picture.kind != TensorProto.UINT8:
        scaled = pixels.astype(np.float32) * np.float32(normalisation.scale / 255)
        shifted: NDArray[Any] = scaled - np.array(normalisation.mean, np.float32)
        pixels = (shifted / np.array(normalisation.std, np.float32)).astype(
            helper.tensor_dtype_to_np_dtype(picture.kind)
        )
    return np.ascontiguousarray(pixels if picture.channels_last else pixels.transpose(0, 3, 1, 2))


def find_inputs(model: onnx.ModelProto, input_size: tuple[int, int] | None) -> tuple[Picture, dict[str, NDArray[Any]]]:
    """Returns the input that takes frames, and values for one frame of all others."""
    known = {value.name for value in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in known]
    listed = ", ".join(_described(value) for value in inputs)
    pictures = [
        value
        for value in inputs
        if value.type.tensor_type.elem_type in _PICTURE_TYPES and len(shape_of(value)) in (3, 4)
    ]
    if len(pictures) != 1:
        raise ExportError(f"the detector must have one input of pictures, but its inputs are {listed}: export it again")
    picture = _picture(pictures[0], input_size)
    extras = {}
    for value in inputs:
        if value.name != picture.name:
            content = _extra(value, picture.size)
            if content is None:
                raise ExportError(
                    f"the detector's input {value.name!r} is not known; its inputs are {listed}: "
                    "export it again so that it takes pictures alone"
                )
            extras[value.name] = content
    return picture, extras


def _picture(value: onnx.ValueInfoProto, input_size: tuple[int, int] | None) -> Picture:
    shape = shape_of(value)
    has_batch = len(shape) == 4
    axes = shape[1:] if has_batch else shape
    channels_last = axes[-1] == 3 and axes[0] != 3
    if not channels_last and axes[0] != 3 and isinstance(axes[0], int):
        raise ExportError(f"the detector's input is {_described(value)}: it must have 3 channels")
    given = axes[:2] if channels_last else axes[1:]
    size = []
    for place, axis in enumerate(given):
        if isinstance(axis, int) and input_size is not None and axis != input_size[place]:
            raise ExportError(
                f"--input-size is {input_size[1]}x{input_size[0]}, but the detector's input is "
                f"{_described(value)}: leave it out"
            )
        if not isinstance(axis, int) and input_size is None:
            raise ExportError(
                f"the detector's input is {_described(value)}, of open size: say with --input-size WIDTHxHEIGHT "
                "which one it was trained for"
            )
        size.append(axis if isinstance(axis, int) else input_size[place])  # type: ignore[index]
    if has_batch and isinstance(shape[0], int) and shape[0] != 1:
        raise ExportError(
            f"the detector's input is {_described(value)}: export it again with a batch of 1 or of any size"
        )
    kind = value.type.tensor_type.elem_type
    any_batch = has_batch and not isinstance(shape[0], int)
    return Picture(value.name, kind, channels_last, has_batch, any_batch, (size[0], size[1]))


def _extra(value: onnx.ValueInfoProto, size: tuple[int, int]) -> NDArray[Any] | None:
    """Returns the value for one frame of an input beside the picture, None where its name is not known."""
    name, shape = value.name.lower(), shape_of(value)
    kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    height, width = size
    if "mask" in name and len(shape) == 3:  # DETR's pixel mask: all of the frame is picture
        rows, columns = (axis if isinstance(axis, int) else edge for axis, edge in zip(shape[1:], size, strict=True))
        return np.ones((1, rows, columns), kind)
    if len(shape) == 2 and shape[1] == 2:
        if name == "scale_factor":
            return np.ones((1, 2), kind)
        if name == "im_shape":
            return np.array([[height, width]], kind)
        if "target_size" in name or name in ("orig_size", "orig_sizes"):  # RT-DETR and D-FINE: width, height
            return np.array([[width, height]], kind)
    return None


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Returns the axes of a tensor; open ones are strings."""
    axes = value.type.tensor_type.shape.dim
    return [axis.dim_value if axis.dim_value > 0 else axis.dim_param or "?" for axis in axes]


def _described(value: onnx.ValueInfoProto) -> str:
    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return f"{value.name} {kind} [{', '.join(map(str, shape_of(value)))}]"


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)

"""The graph of a TensorFlow Lite file as a torch module, in floats throughout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import WeightsError
from models.networks.tflite.reader import TfliteModel, TfliteOperation

SAME = 0
"""`padding` of convolutions and pools that round their output's sides up."""
_ACTIVATIONS: dict[int, Callable[[Tensor], Tensor]] = {0: lambda values: values, 1: F.relu, 3: F.relu6}
_LAST_TO_FIRST, _FIRST_TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def pad_same(values: Tensor, kernel: Sequence[int], stride: Sequence[int], filler: float = 0.0) -> Tensor:
    """Pads images (N, C, H, W) as TensorFlow's SAME does: the odd pixel at the bottom and on the right.

    kernel, stride: of height and width.
    """
    total = [
        max((-(-side // step) - 1) * step + size - side, 0)
        for side, size, step in zip(values.shape[2:], kernel, stride, strict=True)
    ]
    (top, left), (bottom, right) = [each // 2 for each in total], [each - each // 2 for each in total]
    if not any(total):
        return values
    return F.pad(values, (left, right, top, bottom), value=filler)


class TfliteGraph(nn.Module):
    """Runs a file's operations. Weights are buffers `tensor_N`, N being the tensor's number in the file.

    Quantised weights are floats here and what is computed from them is not rounded.

    Raises WeightsError where an operation has an option that is not supported.
    """

    def __init__(self, model: TfliteModel) -> None:
        super().__init__()
        self._inputs, self._outputs = model.inputs, model.outputs
        self._operations = model.operations
        self._shapes = [tensor.shape for tensor in model.tensors]
        self._stored = [number for number, tensor in enumerate(model.tensors) if tensor.values is not None]
        self._sizes: dict[int, list[int]] = {}
        for number in self._stored:
            values = np.array(model.tensors[number].values)
            if values.dtype.kind == "i":
                self._sizes[number] = values.flatten().tolist()
                values = values.astype(np.int64)
            tensor = torch.from_numpy(values)
            self.register_buffer(f"tensor_{number}", tensor.float() if tensor.is_floating_point() else tensor)
        for operation in model.operations:
            _refuse_unsupported(operation)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Maps float tensors in the file's shapes, images channels last, to the file's outputs.

        An input that the file wants quantised is taken as the float that it stands for.
        """
        known: dict[int, Tensor] = {number: getattr(self, f"tensor_{number}") for number in self._stored}
        # Images are kept channels first; the file's weights and shapes have them last.
        for number, values in zip(self._inputs, inputs, strict=True):
            known[number] = values.permute(_LAST_TO_FIRST) if values.ndim == 4 else values
        for operation in self._operations:
            known[operation.outputs[0]] = self._run(operation, known)
        given = [known[number] for number in self._outputs]
        return tuple(values.permute(_FIRST_TO_LAST) if values.ndim == 4 else values for values in given)

    def _run(self, operation: TfliteOperation, known: dict[int, Tensor]) -> Tensor:
        inputs, options = operation.inputs, operation.options
        first = known[inputs[0]]
        match operation.kind:
            case "CONV_2D" | "DEPTHWISE_CONV_2D":
                bias = known[inputs[2]] if len(inputs) > 2 and inputs[2] >= 0 else None
                result = _convolve(operation, first, known[inputs[1]], bias)
            case "ADD":
                result = first + known[inputs[1]]
            case "MAX_POOL_2D":
                kernel, stride = _pair(options, "filter"), _pair(options, "stride")
                padded = pad_same(first, kernel, stride, -torch.inf) if options["padding"] == SAME else first
                result = F.max_pool2d(padded, kernel, stride)
            case "PAD":
                _, rows, columns, channels = np.reshape(self._sizes[inputs[1]], (-1, 2)).tolist()
                result = F.pad(first, (*columns, *rows, *channels))
            case "RESIZE_BILINEAR":
                result = F.interpolate(first, self._sizes[inputs[1]], mode="bilinear", align_corners=False)
            case "RESIZE_NEAREST_NEIGHBOR":
                mode = "nearest-exact" if options["half_pixel_centers"] else "nearest"
                result = F.interpolate(first, self._sizes[inputs[1]], mode=mode)
            case "RESHAPE":
                last = first.permute(_FIRST_TO_LAST) if first.ndim == 4 else first
                result = last.reshape(self._shapes[operation.outputs[0]])
                result = result.permute(_LAST_TO_FIRST) if result.ndim == 4 else result
            case "CONCATENATION":
                axis = options["axis"] % first.ndim
                result = torch.cat(
                    [known[number] for number in inputs], (0, 2, 3, 1)[axis] if first.ndim == 4 else axis
                )
            case "LOGISTIC":
                result = first.sigmoid()
            case _:  # DEQUANTIZE and QUANTIZE: all is floats already
                result = first
        return _ACTIVATIONS[options.get("activation", 0)](result)


def _convolve(operation: TfliteOperation, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    deep = operation.kind == "DEPTHWISE_CONV_2D"
    weight = as_torch_weight(operation.kind, weight)
    stride = _pair(operation.options, "stride")
    if operation.options["padding"] == SAME:
        images = pad_same(images, weight.shape[2:], stride)
    return F.conv2d(images, weight, bias, stride, groups=images.shape[1] if deep else 1)


def as_torch_weight(kind: str, weight: Tensor) -> Tensor:
    """Turns a kernel from the file's order to torch's (out, in, height, width).

    kind: `CONV_2D` (out, height, width, in) or `DEPTHWISE_CONV_2D` (1, height, width, out).
    """
    return weight.permute((3, 0, 1, 2) if kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2))


def _pair(options: Mapping[str, int], name: str) -> tuple[int, int]:
    return options[f"{name}_h"], options[f"{name}_w"]


def _refuse_unsupported(operation: TfliteOperation) -> None:
    options = operation.options
    asked = {
        "activation": options.get("activation", 0) not in _ACTIVATIONS,
        "align_corners": bool(options.get("align_corners", 0)),
        "half_pixel_centers": operation.kind == "RESIZE_BILINEAR" and not options["half_pixel_centers"],
        "dilation_w": options.get("dilation_w", 1) != 1,
        "dilation_h": options.get("dilation_h", 1) != 1,
        "multiplier": options.get("multiplier", 1) != 1,
    }
    for name in (name for name, refused in asked.items() if refused):
        raise WeightsError(f"the file's {operation.kind} has {name} {options[name]}, which is not supported")

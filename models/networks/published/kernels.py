"""Copies the convolutions of a TensorFlow Lite file into a network's, in the order that the file runs them in."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.errors import WeightsError
from models.networks.tflite import TfliteModel
from models.networks.tflite.graph import as_torch_weight

_SHARED_TOLERANCE = 0.01
"""Layers that share a bias have it quantised separately, so that it may differ a little."""


@torch.no_grad()
def copy_kernels(model: TfliteModel, layers: Iterable[nn.Conv2d], name: str) -> None:
    """Copies weights and biases. A layer that is listed again must have the same ones in the file.

    Raises WeightsError where the file has other layers.

    layers: the network's convolutions in the file's order.
    name: what errors call the file.
    """
    kernels, seen = _kernels(model), set[nn.Conv2d]()
    wanted = list(layers)
    if len(kernels) != len(wanted):
        raise WeightsError(f"{name} has {len(kernels)} convolutions, not {len(wanted)}: it holds another network")
    for number, (layer, (weight, bias)) in enumerate(zip(wanted, kernels, strict=True)):
        assert layer.bias is not None
        if weight.shape != layer.weight.shape:
            raise WeightsError(
                f"{name}: convolution {number} has a kernel of {tuple(weight.shape)}, not {tuple(layer.weight.shape)}: "
                "it holds another network"
            )
        if layer in seen and not (
            torch.allclose(layer.weight, weight) and torch.allclose(layer.bias, bias, atol=_SHARED_TOLERANCE)
        ):
            raise WeightsError(f"{name}: convolution {number} does not share its weights as it should")
        if layer not in seen:
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        seen.add(layer)


def _kernels(model: TfliteModel) -> list[tuple[Tensor, Tensor]]:
    """Returns kernels (out, in, h, w) and biases (out,) in the order of the file's convolutions."""
    values = {
        number: torch.tensor(tensor.values)
        for number, tensor in enumerate(model.tensors)
        if tensor.values is not None and tensor.values.dtype.kind == "f"
    }
    kernels = []
    for operation in model.operations:
        # Float16 weights pass through an operation of their own.
        if operation.kind == "DEQUANTIZE" and operation.inputs[0] in values:
            values[operation.outputs[0]] = values[operation.inputs[0]].float()
        if operation.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            weight = as_torch_weight(operation.kind, values[operation.inputs[1]])
            kernels.append((weight, values[operation.inputs[2]]))
    return kernels

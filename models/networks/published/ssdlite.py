"""SSDLite with MobileNetV2 from the published weights of TensorFlow.js's object detector, coco-ssd."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import WeightsError
from models.networks.detectors import coco
from models.networks.detectors.mobile_blocks import InvertedResidual, SameConv
from models.networks.detectors.ssdlite import ExtraLevel, Predictor, SsdLite, SsdLiteConfig
from models.networks.published.tfjs import Arrays

_COLUMNS = 91
"""The published columns: the background and COCO's 90 numbers, ten of which have no class."""
_EPSILON = 1e-3
_EXTRACTOR = "FeatureExtractor/MobilenetV2"


@dataclass(frozen=True)
class _Layer:
    """A convolution and the name of its weights.

    depthwise: whether it filters each channel.
    normed: whether its norm is left as it is, not folded into its weights.
    """

    layer: SameConv
    name: str
    depthwise: bool = False
    normed: bool = False


def import_ssdlite(weights: Arrays, config: SsdLiteConfig, name: str) -> SsdLite:
    """Builds the network with published weights, rounded to half precision so that bundles hold them in half the space.

    Raises WeightsError where a weight is missing, is of another shape, or is not known.

    name: what errors call the file.
    """
    network = SsdLite(config)
    unread = {each for each in weights if each.startswith((f"{_EXTRACTOR}/", "BoxPredictor_"))}
    with torch.no_grad():
        for each in _layers(network):
            kernel, bias, read = _folded(each, weights, name)
            unread -= read
            for own, given in ((each.layer.weight, kernel), (each.layer.bias, bias)):
                assert own is not None
                if own.shape != given.shape:
                    raise WeightsError(
                        f"{name}: {each.name} has a kernel of {tuple(given.shape)}, not {tuple(own.shape)}: "
                        "it holds another network"
                    )
                own.copy_(torch.from_numpy(given).half().float())
    if unread:
        raise WeightsError(f"{name} holds weights of another network: {', '.join(sorted(unread)[:3])}")
    return network.eval()


def _folded(each: _Layer, weights: Arrays, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32], set[str]]:
    """Returns a layer's kernel (out, in, h, w) and bias (out,), norms folded in, and the names of what was read."""
    read: set[str] = set()

    def get(part: str) -> NDArray[np.float32]:
        path = f"{each.name}/{part}"
        if path not in weights:
            raise WeightsError(f"{name} lacks {path}: it holds another network")
        read.add(path)
        return weights[path]

    if each.depthwise:
        kernel = get("depthwise_weights").transpose(2, 3, 0, 1)  # (in, 1, h, w)
        if each.normed:
            scale = get("BatchNorm/gamma") / np.sqrt(get("BatchNorm/moving_variance") + _EPSILON)
            bias = get("BatchNorm/beta") - get("BatchNorm/moving_mean") * scale
        else:
            scale, bias = get("BatchNorm/batchnorm/mul"), get("BatchNorm/batchnorm/sub")
        return np.ascontiguousarray(kernel * scale[:, None, None, None]), bias, read
    if "BoxPredictor" not in each.name:
        kernel, bias = get("Conv2D/merged_input"), get("BatchNorm/batchnorm/sub")
    else:
        kernel, bias = get("weights"), get("biases")
        if each.name.endswith("ClassPredictor"):
            kept = [0, *coco.IDS]
            anchors = len(bias) // _COLUMNS
            kernel = kernel.reshape(*kernel.shape[:3], anchors, _COLUMNS)[..., kept].reshape(*kernel.shape[:3], -1)
            bias = bias.reshape(anchors, _COLUMNS)[:, kept].reshape(-1)
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), np.ascontiguousarray(bias), read


def _layers(network: SsdLite) -> Iterator[_Layer]:
    yield _Layer(network.stem, f"{_EXTRACTOR}/Conv")
    for number, block in enumerate(network.blocks):
        assert isinstance(block, InvertedResidual)
        name = f"{_EXTRACTOR}/expanded_conv" + (f"_{number}" if number else "")
        if block.expand is not None:
            yield _Layer(block.expand, f"{name}/expand")
        yield _Layer(block.filter, f"{name}/depthwise", depthwise=True)
        yield _Layer(block.project, f"{name}/project")
    yield _Layer(network.last, f"{_EXTRACTOR}/Conv_1")
    for number, extra in enumerate(network.extra, 2):
        assert isinstance(extra, ExtraLevel)
        within, outputs = extra.narrow.out_channels, extra.mix.out_channels
        yield _Layer(extra.narrow, f"{_EXTRACTOR}/layer_19_1_Conv2d_{number}_1x1_{within}")
        name = f"{_EXTRACTOR}/layer_19_2_Conv2d_{number}_3x3_s2_{outputs}"
        yield _Layer(extra.filter, f"{name}_depthwise", depthwise=True)
        yield _Layer(extra.mix, name)
    for kind, heads in (("BoxEncoding", network.box_heads), ("Class", network.class_heads)):
        for number, head in enumerate(heads):
            assert isinstance(head, Predictor)
            name = f"BoxPredictor_{number}/{kind}Predictor"
            yield _Layer(head.filter, f"{name}_depthwise", depthwise=True, normed=True)
            yield _Layer(head.predict, name)

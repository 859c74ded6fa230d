"""Networks as ONNX graphs: uint8 frames in, static but for batch and time."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from models.arn import Arn
from models.bundle import Stage
from models.bundle import Tensor as TensorOfStage

BATCH, TIME = "batch", "time"
OPSET = 18

_DTYPES: dict[int, str] = {
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.BOOL: "bool",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.FLOAT: "float32",
}


class _Predict(nn.Module):
    """The part of a network that is exported, with its outputs in a fixed order."""

    def __init__(self, network: Arn) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.predict(frames).values())


def export_network(network: Arn, path: Path) -> Stage:
    """Writes one ONNX file and returns its description for the manifest.

    The graph takes `frames` (batch, time, height, width, 3) uint8 RGB and gives the tensors of
    `models.predictions.PairPredictions`, each with a leading batch axis.
    """
    config = network.config
    network = network.eval()
    # Neither axis may be 1 here: the exporter would take it for a constant.
    frames = torch.zeros(2, min(3, config.clip_length), config.frame_height, config.frame_width, 3, dtype=torch.uint8)
    with torch.inference_mode():
        names = list(network.predict(frames))
    time = torch.export.Dim(TIME, min=1, max=config.clip_length)
    with warnings.catch_warnings():
        # The exporter warns of its own dependencies' deprecations; nothing here can act on them.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Predict(network).eval(),
            (frames,),
            dynamic_shapes={"frames": {0: torch.export.Dim(BATCH, min=1, max=1024), 1: time}},
            input_names=["frames"],
            output_names=names,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    program.save(str(path), external_data=False)
    return describe_stage("scene_graph", path)


def describe_stage(name: str, path: Path) -> Stage:
    """Reads inputs and outputs of an ONNX file; axes 0 and 1 are batch and time."""
    graph = onnx.load(str(path), load_external_data=False).graph

    def describe(value: onnx.ValueInfoProto) -> TensorOfStage:
        kind = value.type.tensor_type
        shape = [dimension.dim_param or dimension.dim_value for dimension in kind.shape.dim]
        return TensorOfStage(name=value.name, dtype=_DTYPES[kind.elem_type], shape=(BATCH, TIME, *shape[2:]))  # type: ignore[arg-type]

    inputs, outputs = map(describe, graph.input), map(describe, graph.output)
    return Stage(name=name, file=path.name, inputs=list(inputs), outputs=list(outputs))

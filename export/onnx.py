"""Writes networks as ONNX graphs, one for each stage; shapes are static but for batch and time."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset18
from torch import Tensor, nn

from export.errors import ExportError
from models.engines import Tensors, bundle_inputs, run_stages
from models.engines.engine import Arrays
from models.graph.bundle import Stage
from models.graph.bundle import Tensor as TensorOfStage
from models.graph.predictions import prediction_names
from models.networks.stages import NetworkStage, SceneGraphNetwork, Span

BATCH, TIME = "batch", "time"
OPSET = 18
_MOST_FRAMES = 1 << 20
"""Longest video that a stage of span `video` is exported for."""

op: Any = opset18  # its annotations take no Python values, which it does
_DTYPES: dict[int, str] = {
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.BOOL: "bool",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.FLOAT: "float32",
}


class _Needed(nn.Module):
    """A stage's module without its unneeded outputs."""

    def __init__(self, stage: NetworkStage, outputs: list[str]) -> None:
        super().__init__()
        self.module = stage.module
        self.kept = [stage.outputs.index(name) for name in outputs]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.module(*inputs)
        return tuple(outputs[index] for index in self.kept)


def export_network(network: SceneGraphNetwork, folder: Path) -> list[Stage]:
    """Writes one ONNX file for each stage and returns their descriptions for the manifest.

    The first graph takes `frames` (batch, time, height, width, 3) uint8 RGB; together they give the tensors of
    `models.graph.predictions.prediction_names`, each with a leading batch axis. Raises ExportError where the network
    takes single frames only, whose time would be no axis.
    """
    if network.clip_length < 2:
        raise ExportError(
            "a network of clip_length 1 cannot be exported; give its model 2 or more, its training clips may be shorter"
        )
    stages = network.stages()
    tensors = run_stages(stages, sample_inputs(network.frame_size, network.clip_length))
    return export_stages(stages, tensors, prediction_names(network.vocabulary), network.clip_length, folder)


def sample_inputs(frame_size: tuple[int, int], clip_length: int) -> Tensors:
    """Returns inputs of a bundle that its stages are traced with: two clips of noise.

    The exporter takes an axis of length 1 for a constant.
    """
    time = min(3, clip_length)
    frames = np.random.default_rng(0).integers(0, 256, (2, time, *frame_size, 3), np.uint8)
    return bundle_inputs(frames, np.arange(time, dtype=np.float32))


def export_stages(
    stages: Sequence[NetworkStage], arrays: Arrays, asked: Set[str], clip_length: int, folder: Path
) -> list[Stage]:
    """Writes one ONNX file for each stage and returns their descriptions for the manifest.

    arrays: the inputs of all stages by name, (B, T, …) each, which they are traced with.
    asked: names of the outputs that are kept, beside those that a later stage takes.
    clip_length: most frames that run at once, unless the span is `video`.
    """
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    written: list[Stage] = []
    for place, stage in enumerate(stages):
        later = {name for each in stages[place + 1 :] for name in each.inputs}
        outputs = [name for name in stage.outputs if name in asked | later]
        most = _MOST_FRAMES if stage.span == "video" else clip_length
        path = folder / f"{stage.name}.onnx"
        _write(_Needed(stage, outputs).eval(), stage, tensors, outputs, most, path)
        written.append(describe_stage(stage.name, stage.span, path))
    return written


def _write(
    module: nn.Module, stage: NetworkStage, tensors: Mapping[str, Tensor], outputs: list[str], most: int, path: Path
) -> None:
    """Writes one ONNX file; its inputs are those of the stage's inputs that its outputs depend on."""
    axes = {0: torch.export.Dim(BATCH, min=1, max=1024), 1: torch.export.Dim(TIME, min=1, max=most)}
    # The optimizer says in dozens of lines what it leaves as it is.
    logging.getLogger("onnxscript.optimizer").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns of deprecations in its own dependencies, which nothing here can mend.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(tensors[name].clone() for name in stage.inputs),
            dynamic_shapes=(tuple(axes for _ in stage.inputs),),
            input_names=list(stage.inputs),
            output_names=outputs,
            opset_version=OPSET,
            custom_translation_table={torch.ops.vsg.suppress.default: _suppress},
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    program.save(str(path), external_data=False)
    model = onnx.load(str(path))
    read = {name for node in model.graph.node for name in node.input}
    for value in [value for value in model.graph.input if value.name not in read]:
        model.graph.input.remove(value)
    onnx.save(model, str(path))


def _suppress(boxes: Any, scores: Any, iou: float, least_score: float) -> Any:
    """Translates `vsg::suppress` to ONNX: scatters the indices of the boxes that stay into a mask."""
    indices = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(scores, op.Constant(value_ints=[1])),  # (G, 1, S): one class
        op.Shape(scores, start=1),  # as many as there are
        op.Constant(value_floats=[iou]),
        op.Constant(value_floats=[least_score]),
    )  # (K, 3): group, class, box
    places = op.Gather(indices, op.Constant(value_ints=[0, 2]), axis=1)  # (K, 2)
    nothing = op.ConstantOfShape(op.Shape(scores), value=onnx.helper.make_tensor("no", onnx.TensorProto.BOOL, [1], [0]))
    kept = op.ConstantOfShape(
        op.Shape(indices, end=1), value=onnx.helper.make_tensor("yes", onnx.TensorProto.BOOL, [1], [1])
    )
    return op.ScatterND(nothing, places, kept)


def describe_stage(name: str, span: Span, path: Path) -> Stage:
    """Describes the inputs and outputs of an ONNX file; axes 0 and 1 are batch and time."""
    graph = onnx.load(str(path), load_external_data=False).graph

    def describe(value: onnx.ValueInfoProto) -> TensorOfStage:
        kind = value.type.tensor_type
        shape = [dimension.dim_param or dimension.dim_value for dimension in kind.shape.dim]
        return TensorOfStage(name=value.name, dtype=_DTYPES[kind.elem_type], shape=(BATCH, TIME, *shape[2:]))

    inputs, outputs = map(describe, graph.input), map(describe, graph.output)
    return Stage(name=name, file=path.name, inputs=list(inputs), outputs=list(outputs), span=span)

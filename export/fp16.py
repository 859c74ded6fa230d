"""Writes ONNX graphs in fp16, for GPUs."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

_KEPT = [
    # Position codes and box decoding: in fp16 angles and logarithms of fractions are off by pixels.
    "Sin", "Cos", "Exp", "Log", "Pow", "Clip",
    # Sums of many squares, which overflow.
    "ReduceL2", "ReduceSum", "LayerNormalization", "BatchNormalization",
    # Scores, which are ranked.
    "Softmax", "Sigmoid",
    # Coordinates in pixels, which fp16 rounds above 2,048.
    "Resize", "GridSample",
    # Sums into places, which ONNX Runtime's CPU provider has no fp16 for.
    "ScatterElements", "ScatterND",
]  # fmt: skip


def to_half(source: Path, target: Path) -> None:
    """Writes a stage's graph with its weights and products in fp16; inputs and outputs keep their types."""
    model = convert_float_to_float16(
        onnx.load(str(source)), keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_KEPT]
    )
    # The converter adds one cast of a tensor for each node that reads it, all of one name and in no order.
    distinct = {node.output[0]: node for node in model.graph.node}
    del model.graph.node[:]
    model.graph.node.extend(distinct.values())
    OnnxModel(model).topological_sort()
    onnx.checker.check_model(model)
    onnx.save(model, str(target))

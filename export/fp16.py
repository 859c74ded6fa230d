"""ONNX graphs in fp16, for GPUs."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

_KEPT = [
    # Position codes and box decoding: angles and logarithms of fractions lose what a pixel is.
    "Sin", "Cos", "Exp", "Log", "Pow", "Clip",
    # Sums over many squares, which overflow.
    "ReduceL2", "ReduceSum", "LayerNormalization", "BatchNormalization",
    # Scores, which are compared and ranked.
    "Softmax", "Sigmoid",
    # Counted in pixels, which fp16 cannot tell apart over 2,048.
    "Resize", "GridSample",
]  # fmt: skip


def to_half(source: Path, target: Path) -> None:
    """Writes a stage's graph with its weights and products in fp16; inputs and outputs keep their types."""
    model = convert_float_to_float16(
        onnx.load(str(source)), keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_KEPT]
    )
    # The converter casts a tensor once for each node that reads it, all under one name, and puts them where it likes.
    distinct = {node.output[0]: node for node in model.graph.node}
    del model.graph.node[:]
    model.graph.node.extend(distinct.values())
    OnnxModel(model).topological_sort()
    onnx.checker.check_model(model)
    onnx.save(model, str(target))

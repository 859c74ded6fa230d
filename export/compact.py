"""Stores the weights of an ONNX file in fewer bytes where that loses nothing.

Runtimes turn them back into float32 once, when they open the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

_LEAST = 1024
"""Weights with fewer numbers stay as they are."""
_LEVELS = 127


def store_compactly(path: Path) -> None:
    """Rewrites a file in place.

    A weight whose numbers are all float16 is stored as such. One whose numbers are whole multiples, at most 127, of one
    step for each output channel is stored as int8 with the steps beside it, as published int8 weights are.
    """
    model = onnx.load(str(path))
    nodes, kept = [], []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        stored = _float16(weight.name, values) if values.dtype == np.float32 and values.size >= _LEAST else None
        if stored is None and values.dtype == np.float32 and values.size >= _LEAST:
            stored = _int8(weight.name, values)
        if stored is None:
            kept.append(weight)
        else:
            kept += stored[0]
            nodes += stored[1]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    onnx.save(model, str(path))


_Stored = tuple[list[onnx.TensorProto], list[onnx.NodeProto]]


def _float16(name: str, values: NDArray[np.float32]) -> _Stored | None:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.array_equal(half.astype(np.float32), values):
        return None
    cast = onnx.helper.make_node("Cast", [f"{name}.stored"], [name], name=f"{name}.read", to=onnx.TensorProto.FLOAT)
    return [numpy_helper.from_array(half, f"{name}.stored")], [cast]


def _int8(name: str, values: NDArray[np.float32]) -> _Stored | None:
    rows = values.reshape(len(values), -1)
    if rows.shape[1] == 1:
        return None  # a step for each number takes more than the number
    largest = np.abs(rows).max(1)
    steps = np.ones(len(rows), np.float32)
    found = largest == 0
    # Few rows reach the last level, and the step itself is rounded, so that its neighbours are tried too.
    for level in range(_LEVELS, _LEVELS // 2, -1):
        middle = (largest / np.float32(level)).astype(np.float32)
        for step in (middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))):
            left = np.flatnonzero(~found)
            if not len(left):
                break
            levels = np.rint(rows[left] / step[left, None]).astype(np.float32)
            exact = left[(levels * step[left, None] == rows[left]).all(1)]
            steps[exact], found[exact] = step[exact], True
    if not found.all():
        return None
    levels = np.rint(rows / steps[:, None]).astype(np.int8).reshape(values.shape)
    step = steps.reshape(-1, *[1] * (values.ndim - 1))
    return (
        [numpy_helper.from_array(levels, f"{name}.stored"), numpy_helper.from_array(step, f"{name}.step")],
        [
            onnx.helper.make_node(
                "Cast", [f"{name}.stored"], [f"{name}.levels"], name=f"{name}.read", to=onnx.TensorProto.FLOAT
            ),
            onnx.helper.make_node("Mul", [f"{name}.levels", f"{name}.step"], [name], name=f"{name}.scale"),
        ],
    )

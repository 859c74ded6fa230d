"""Writes ONNX graphs by hand, around graphs that others made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.errors import ExportError
from export.onnx import OPSET

_OF_ONNX_RUNTIME = ("SimplifiedLayerNormalization",)
"""Operators of ONNX Runtime in ONNX's own domain."""
_UNKNOWN = "unknown"
"""Domain that these have while others are converted: the converter skips what is of another domain."""


class NodeWriter:
    """Collects nodes and constants; every value that it makes has a name of its own, which begins with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.sparse: list[onnx.SparseTensorProto] = []

    def constant(self, value: NDArray[Any] | Sequence[int]) -> str:
        """Adds a constant, whole numbers as int64."""
        name = f"{self.prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Adds a node and returns the name of its first output."""
        name = output or f"{self.prefix}/{operator.lower()}_{len(self.nodes)}"
        outputs = [name] if operator != "TopK" else [name, f"{name}_places"]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, **attributes))
        return name

    def insert(self, model: onnx.ModelProto, inputs: dict[str, str]) -> None:
        """Adds the whole graph of a model whose names are prefixed already.

        inputs: input of the model to the value that it gets.
        """
        for name, value in inputs.items():
            self.add("Identity", value, output=name)
        self.nodes.extend(model.graph.node)
        self.constants.extend(model.graph.initializer)
        self.sparse.extend(model.graph.sparse_initializer)


def opset_of(model: onnx.ModelProto) -> int:
    """Returns the version of ONNX's own set of operators that a model uses."""
    return int(next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx")))


def at_opset(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Returns a model with another version of the operators. Raises ExportError where it cannot be brought there.

    What ONNX Runtime puts into ONNX's own domain when it optimises a graph stays as it is, since ONNX does not know it.
    """
    if opset_of(model) == version:
        return model
    hidden = onnx.ModelProto()
    hidden.CopyFrom(model)
    hidden.opset_import.append(helper.make_opsetid(_UNKNOWN, 1))
    for node in _nodes_of(hidden.graph):
        if node.domain in ("", "ai.onnx") and node.op_type in _OF_ONNX_RUNTIME:
            node.domain = _UNKNOWN
    try:
        converted = onnx.version_converter.convert_version(hidden, version)
    except Exception as error:  # the converter's C++ raises RuntimeError, IndexError and its own ConvertError
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(
            f"its operators are of opset {opset_of(model)} and cannot be raised to {version} ({reason}): "
            f"export it again with opset {OPSET} or later"
        ) from error
    for node in _nodes_of(converted.graph):
        if node.domain == _UNKNOWN:
            node.domain = ""
    kept = [each for each in converted.opset_import if each.domain != _UNKNOWN]
    del converted.opset_import[:]
    converted.opset_import.extend(kept)
    return converted


def _nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yields the nodes of a graph and of the graphs within them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes_of(inner)

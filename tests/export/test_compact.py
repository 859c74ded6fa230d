"""Weights that are stored in fewer bytes are the same ones when a runtime opens the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.compact import store_compactly
from models.engines.onnxruntime import open_session

Array = NDArray[Any]
RANDOM = np.random.default_rng(0)


def half(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float16).astype(np.float32)


def in_steps(*shape: int, most: int = 127) -> Array:
    """Whole multiples of a step for each output channel, as published int8 weights become in float32."""
    levels = RANDOM.integers(-most, most + 1, shape)
    steps = RANDOM.uniform(1e-3, 0.02, shape[0]).astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
    return levels.astype(np.float32) * steps


def write(path: Path, weights: Sequence[Array]) -> Path:
    """Writes a file whose outputs are its weights, unchanged."""
    names = [f"weight{number}" for number in range(len(weights))]
    nodes = [helper.make_node("Identity", [name], [f"out_{name}"]) for name in names]
    kinds = [helper.np_dtype_to_tensor_dtype(each.dtype) for each in weights]
    outputs = [
        helper.make_tensor_value_info(f"out_{name}", kind, each.shape)
        for name, kind, each in zip(names, kinds, weights, strict=True)
    ]
    stored = [numpy_helper.from_array(each, name) for name, each in zip(names, weights, strict=True)]
    graph = helper.make_graph(nodes, "weights", [], outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(path))
    return path


def run(path: Path, **given: Array) -> list[Array]:
    found: list[Array] = open_session(path, threads=1).run(None, given)
    return found


def kinds_of(path: Path) -> set[int]:
    return {weight.data_type for weight in onnx.load(str(path)).graph.initializer}


@pytest.mark.parametrize(
    ("weights", "kind", "share"),
    [
        (half(64, 3, 3, 32), TensorProto.FLOAT16, 0.55),
        (half(5000), TensorProto.FLOAT16, 0.55),
        (in_steps(64, 32, 3, 3), TensorProto.INT8, 0.35),
        (in_steps(512, 1, 5, 5, most=90), TensorProto.INT8, 0.35),
        (np.concatenate((in_steps(31, 100), np.zeros((1, 100), np.float32))), TensorProto.INT8, 0.45),
    ],
    ids=["half", "half in one row", "steps", "steps that reach no end", "a channel of zeros"],
)
def test_weights_come_back_bit_for_bit_from_a_smaller_file(
    tmp_path: Path, weights: Array, kind: int, share: float
) -> None:
    path = write(tmp_path / "weights.onnx", [weights])
    before = path.stat().st_size
    store_compactly(path)
    onnx.checker.check_model(str(path))
    assert kind in kinds_of(path)
    assert path.stat().st_size < share * before
    (found,) = run(path)
    assert found.dtype == np.float32
    assert found.shape == weights.shape
    assert np.array_equal(found, weights)


@pytest.mark.parametrize(
    "weights",
    [
        RANDOM.normal(size=(64, 64)).astype(np.float32),
        half(1000),
        np.full(2000, 1e30, np.float32) * RANDOM.uniform(size=2000).astype(np.float32),
        RANDOM.normal(size=5000).astype(np.float32),
        RANDOM.normal(size=(5000, 1)).astype(np.float32),
        RANDOM.integers(0, 9, 5000),
        np.array([np.nan, np.inf] * 1000, np.float32).reshape(20, 100),
    ],
    ids=["any", "few", "large", "one row", "a number a channel", "whole numbers", "no numbers"],
)
def test_other_weights_stay_as_they_are(tmp_path: Path, weights: Array) -> None:
    path = write(tmp_path / "weights.onnx", [weights])
    store_compactly(path)
    (stored,) = onnx.load(str(path)).graph.initializer
    assert np.array_equal(numpy_helper.to_array(stored), weights, equal_nan=weights.dtype == np.float32)


def test_a_network_computes_the_same_bit_for_bit(tmp_path: Path) -> None:
    kernel, filters, mix = in_steps(64, 3, 3, 3), in_steps(64, 1, 5, 5), half(64, 64, 1, 1)
    plain = RANDOM.normal(size=(64, 64)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["a"]),
        helper.make_node("Conv", ["a", "filters"], ["b"], group=64),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "mix"], ["d"]),
        helper.make_node("ReduceMean", ["d"], ["e"], keepdims=0, axes=[2, 3]),
        helper.make_node("MatMul", ["e", "plain"], ["out"]),
    ]
    stored = {"kernel": kernel, "filters": filters, "mix": mix, "plain": plain}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 24, 24])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 64])],
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    path = tmp_path / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    images = RANDOM.normal(size=(2, 3, 24, 24)).astype(np.float32)
    (before,) = run(path, images=images)
    store_compactly(path)
    assert kinds_of(path) >= {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8}
    (after,) = run(path, images=images)
    assert np.ptp(before) > 0.1
    assert np.array_equal(before, after)

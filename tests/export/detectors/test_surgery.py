"""The graph that is built around an ONNX detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.detectors.opening import ROWS, open_detector
from export.detectors.surgery import write_detector_stage
from export.errors import ExportError
from export.nodes import at_opset
from models.engines.onnxruntime import open_session
from models.graph.vocabulary import ACTION_GENOME
from models.networks.detectors.choosing import Choosing, ChoosingConfig

NAMES = ("person", "cup")
CONFIG = ChoosingConfig(pairs=4, persons=2, things=3, clip_length=4)
HEIGHT, WIDTH = 32, 48
TABLE = {"person": "person", "cup": "cup/glass/bottle"}


def write_table(path: Path, opset: int, *, dynamic: bool = False) -> Path:
    """A detector of six columns whose two boxes are as wide as the picture is red, as a share of the width.

    Up to opset 12 `Unsqueeze` has its axes as an attribute, later as an input; ReduceMean changed with 18.

    dynamic: keeps only the rows that score over 0.5, so that their number depends on the picture.
    """
    rows = np.array([[4, 2, 0, 30, 0.9, 0], [6, 6, 0, 12, 0.8, 1], [0, 0, 1, 1, 0.05, 1]], np.float32)
    grows = np.array([[0, 0, WIDTH, 0, 0, 0]] * 3, np.float32)
    constants = [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(grows, "grows")]
    axes: dict[str, Any] = {"axes": [2, 3]} if opset < 18 else {}
    inputs = ["red"]
    if opset >= 18:
        constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
        inputs.append("axes")
    constants.append(numpy_helper.from_array(np.array([0]), "first"))
    nodes = [
        helper.make_node("Gather", ["images", "first"], ["red"], axis=1),
        helper.make_node("ReduceMean", inputs, ["mean"], keepdims=0, **axes),  # (1, 1)
        helper.make_node("Mul", ["mean", "grows"], ["growth"]),
        helper.make_node("Add", ["rows", "growth"], ["wide"]),  # (3, 6)
    ]
    last = "wide"
    if dynamic:
        constants.append(numpy_helper.from_array(np.array(4), "fifth"))
        constants.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
        nodes += [
            helper.make_node("Gather", ["wide", "fifth"], ["score"], axis=1),
            helper.make_node("Greater", ["score", "half"], ["good"]),
            helper.make_node("Compress", ["wide", "good"], ["best"], axis=0),
        ]
        last = "best"
    if opset < 13:
        nodes.append(helper.make_node("Unsqueeze", [last], ["output"], axes=[0]))
    else:
        nodes.append(helper.make_node("Unsqueeze", [last, "first"], ["output"]))
    graph = helper.make_graph(
        nodes, "table",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, "rows" if dynamic else 3, 6])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    helper.set_model_props(model, {"names": str(NAMES)})
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(("opset", "dynamic"), [(11, False), (11, True), (20, True)])
def test_detectors_of_any_opset_become_the_same_stage(tmp_path: Path, opset: int, dynamic: bool) -> None:
    path = write_table(tmp_path / "table.onnx", opset, dynamic=dynamic)
    detector = open_detector(path, NAMES)
    assert detector.open_rows == dynamic
    assert detector.rows == ((ROWS if dynamic else 3, 4), (ROWS if dynamic else 3,), (ROWS if dynamic else 3,))
    choosing = Choosing(CONFIG, NAMES, TABLE, ACTION_GENOME, (HEIGHT, WIDTH))
    stage = tmp_path / "stage.onnx"
    needed = set(choosing.outputs) - {"person_boxes"}
    write_detector_stage(detector, choosing, needed, stage)
    session = open_session(stage)
    assert {value.name for value in session.get_outputs()} == needed
    frames = np.zeros((2, 1, HEIGHT, WIDTH, 3), np.uint8)
    frames[0, 0, ..., 0], frames[1, 0, ..., 0] = 255, 102
    names = ["pair_mask", "subject_boxes", "object_boxes", "object_scores", "subject_scores", "person_scores"]
    found = dict(zip(names, session.run(names, {"frames": frames}), strict=True))
    assert found["pair_mask"].sum(-1).tolist() == [[1], [1]], "a row below the least score is no pair"
    for clip, share in ((0, 1.0), (1, 0.4)):
        assert found["subject_boxes"][clip, 0, 0].tolist() == pytest.approx(
            [4 / WIDTH, 2 / HEIGHT, share, 30 / HEIGHT], abs=1e-5
        )
        assert found["object_boxes"][clip, 0, 0].tolist() == pytest.approx(
            [6 / WIDTH, 6 / HEIGHT, share, 12 / HEIGHT], abs=1e-5
        )
    assert found["subject_scores"][:, 0, 0].tolist() == pytest.approx([0.9, 0.9])
    assert found["person_scores"][:, 0].tolist() == [pytest.approx([0.9, 0.0])] * 2
    assert found["object_scores"][:, 0, 0].max(-1).tolist() == pytest.approx([0.8, 0.8])


def test_operators_that_cannot_be_raised_are_refused(tmp_path: Path) -> None:
    model = onnx.load(str(write_table(tmp_path / "table.onnx", 11)))
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ExportError, match="opset 11 and cannot be raised to 18"):
        at_opset(model, 18)

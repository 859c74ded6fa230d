"""ONNX networks of boxes and relations become bundles with their own vocabulary; others are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.importing import import_
from export.relation_graphs import ReadRelations, open_relation_graph
from models.engines import bundle_inputs, open_stages, run_stages
from models.graph.bundle import Bundle
from models.graph.predictions import PairPredictions
from tests.support.paths import ROOT
from vsg import open_model

SIDE = 64
CLASSES = ["person", "cup", "tv-monitor", "woman"]
PREDICATES = ["on", "holding", "looking at"]
# Left, top, right, bottom, class from 1, score; the frame lies in rows 8 to 56 of the input.
BOXES = [(8, 12, 28, 52, 1, 0.9), (20, 20, 40, 40, 2, 0.8), (40, 8, 64, 56, 3, 0.7), (0, 8, 20, 56, 4, 0.6)]
# Rows of subject and object, predicate, score of the triplet, score of the predicate.
RELATIONS = [(0, 1, 1, 0.5, 0.75), (1, 2, 0, 0.4, 0.5), (0, 1, 2, 0.3, 0.4), (3, 2, 2, 0.2, 0.5), (0, 3, 1, 0.1, 0.9)]


def network_file(path: Path, *, metadata: dict[str, str] | None = None, columns: int = 5, outputs: int = 2) -> Path:
    """A network that finds all boxes and relations in a bright frame, and nothing in a dark one.

    Inputs, outputs and metadata are those that the exporter of REACT++ (Maelic/SGG-Benchmark) writes: a batch of any
    size, opset 17, and the background among the predicates, whose numbers begin at 1.
    """
    names = {"obj_classes": json.dumps(CLASSES), "rel_classes": json.dumps(["__background__", *PREDICATES])}
    relations = np.array(RELATIONS, np.float32)[:, :columns]
    relations[:, 2] += 1
    tables = {
        "all_boxes": np.array(BOXES, np.float32),
        "all_rels": relations,
        "dark": np.array(0.6, np.float32),
        "two": np.array(2, np.float32),
        "little": np.array(1e-6, np.float32),
        "scale": np.ones(SIDE, np.float32),
        "zero": np.array([0], np.int64),
        "kernel": np.full((4, 3, 3, 3), 1 / 27, np.float32),
    }
    nodes = [
        # As in its networks; ONNX Runtime makes operators of its own of them.
        helper.make_node("Conv", ["input", "kernel"], ["blurred"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["blurred"], ["gate"]),
        helper.make_node("Mul", ["blurred", "gate"], ["active"]),
        helper.make_node("Pow", ["active", "two"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["mean"], axes=[-1]),
        helper.make_node("Add", ["mean", "little"], ["positive"]),
        helper.make_node("Sqrt", ["positive"], ["root"]),
        helper.make_node("Div", ["active", "root"], ["normed"]),
        helper.make_node("Mul", ["normed", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["brightness"], keepdims=0),
        helper.make_node("Greater", ["brightness", "dark"], ["bright"]),
        helper.make_node("Unsqueeze", ["bright", "zero"], ["seen"]),
    ]
    for name, rows in (("boxes", len(BOXES)), ("rels", len(RELATIONS))):
        tables[f"{name}_rows"] = np.array([rows], np.int64)
        nodes += [
            helper.make_node("Expand", ["seen", f"{name}_rows"], [f"{name}_kept"]),
            helper.make_node("Compress", [f"all_{name}", f"{name}_kept"], [name], axis=0),
        ]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["num_objects", 6]),
            helper.make_tensor_value_info("rels", TensorProto.FLOAT, ["num_rels", columns]),
        ][:outputs],
        [numpy_helper.from_array(value, name) for name, value in tables.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, names if metadata is None else metadata)
    onnx.save(model, str(path))
    return path


def optimised(path: Path) -> Path:
    """The file as ONNX Runtime optimises it, with the metadata written again, as that exporter does."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path.with_suffix(".opt.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = onnx.load(str(path.with_suffix(".opt.onnx")))
    operators = {node.op_type for node in model.graph.node}
    assert {"QuickGelu", "SimplifiedLayerNormalization"} <= operators, "as in a file of that exporter"
    named = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    helper.set_model_props(model, named)
    onnx.save(model, str(path))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(import_, ["react", *map(str, arguments)])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("react")
    file = optimised(network_file(folder / "react.onnx"))
    done = run(file, folder / "react", "--frame-size", "64x48", "--licence", "Apache-2.0", "--origin", "a test")
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    assert "4 classes, 3 predicates, subjects: person, woman; licence Apache-2.0" in done.output
    return Bundle.load(folder / "react")


def predict(bundle: Bundle, *brightness: int) -> PairPredictions:
    frames = np.stack([np.full((48, 64, 3), value, np.uint8) for value in brightness])
    outputs = run_stages(open_stages(bundle, "onnxruntime-cpu"), bundle_inputs(frames[None], np.arange(len(frames))))
    return PairPredictions.from_outputs(outputs, bundle.manifest.vocabulary)


def test_each_pair_has_a_slot_with_all_its_predicates(bundle: Bundle) -> None:
    found = predict(bundle, 200)
    slots = np.flatnonzero(found.pair_mask[0])
    # Of the pair of a person with a woman, and of a cup on a monitor, neither has a subject and a thing.
    assert len(slots) == 2
    first, second = slots
    np.testing.assert_allclose(found.predicate_scores[0, first], [0, 0.75, 0.4])
    np.testing.assert_allclose(found.predicate_scores[0, second], [0, 0, 0.5])
    np.testing.assert_allclose(found.subject_scores[0, slots], [0.9, 0.6])
    np.testing.assert_allclose(found.object_scores[0, slots], [[0, 0.8, 0, 0], [0, 0, 0.7, 0]])
    assert found.subject_classes is not None
    assert found.subject_classes[0, slots].tolist() == [0, 3]


def test_boxes_are_fractions_of_the_frame_without_the_padding(bundle: Bundle) -> None:
    found = predict(bundle, 200)
    slots = np.flatnonzero(found.pair_mask[0])
    size = np.array([64, 48, 64, 48])
    wanted: NDArray[Any] = np.array([[8, 4, 28, 44], [0, 0, 20, 48]]) / size
    np.testing.assert_allclose(found.subject_boxes[0, slots], wanted, atol=1e-6)
    np.testing.assert_allclose(found.object_boxes[0, slots[1]], [40 / 64, 0, 1, 1], atol=1e-6)


def test_a_frame_without_relations_has_no_pairs_whatever_its_neighbours_have(bundle: Bundle) -> None:
    assert predict(bundle, 200, 0, 220).pair_mask.sum(1).tolist() == [2, 0, 2]


def test_a_video_becomes_a_graph_in_the_networks_own_words(bundle: Bundle, tmp_path: Path) -> None:
    manifest = json.loads((bundle.folder / "manifest.json").read_text())
    assert manifest["weights"][0] | {"sha256": ""} == {
        "name": "react.onnx", "origin": "a test", "licence": "Apache-2.0", "sha256": "",
    }  # fmt: skip
    with open_model(bundle.folder) as model:
        graph = model(ROOT / "docs" / "puppets.mp4", fps=1, end=3)
    triplets = {(triplet.predicate, triplet.group) for frame in graph.frames for triplet in frame.triplets}
    assert ("holding", "relation") in triplets
    assert {item.label for frame in graph.frames for item in frame.objects} <= {"person", "woman", "cup", "tv-monitor"}


def test_the_background_is_no_predicate(bundle: Bundle) -> None:
    assert bundle.manifest.vocabulary.predicates == tuple(PREDICATES)


def test_predicates_without_a_background_are_numbered_from_0(tmp_path: Path) -> None:
    named = {"obj_classes": json.dumps(CLASSES), "rel_classes": json.dumps(["over", *PREDICATES])}
    network = open_relation_graph(network_file(tmp_path / "plain.onnx", metadata=named))
    assert network.vocabulary.predicates == ("over", *PREDICATES)
    reading = ReadRelations(network.vocabulary, network.first_predicate, (48, 64), (SIDE, SIDE))
    subject, thing = torch.tensor(BOXES[:2])[:, None, None, None]  # (1, 1, 1, 6) each
    for number in range(4):
        scores = reading(torch.tensor([[[[0, 1, number, 0.5, 0.75]]]]), subject, thing)[5]
        assert scores.flatten().tolist() == [0.75 * (column == number) for column in range(4)]


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"metadata": {}}, [], "does not name its classes: its metadata have no list 'obj_classes'"),
        ({"metadata": {"obj_classes": "[1", "rel_classes": "[]"}}, [], "does not name its classes"),
        (
            {"metadata": {"obj_classes": '["a","b"]', "rel_classes": '["on"]'}},
            [],
            "of which 0 may act (a, b …): say",
        ),
        ({"metadata": {"obj_classes": '["person","b"]', "rel_classes": '["on","on"]'}}, [], "make no vocabulary"),
        ({}, ["--subject", "robot"], "--subject is 'robot', which is none of its classes: person, cup"),
        ({}, ["--frame-size", "80x60"], "--frame-size is 80x60, but the network's input has 64x64 pixels"),
        ({"columns": 4}, [], "gives outputs of shapes (4, 6) and (5, 4): give a network of boxes (N, 6) and relations"),
        ({"outputs": 1}, [], "has the outputs boxes: give a network with two"),
    ],
)
def test_a_network_of_something_else_is_refused(
    tmp_path: Path, changes: dict[str, Any], options: list[str], words: str
) -> None:
    file = network_file(tmp_path / "odd.onnx", **changes)
    done = run(file, tmp_path / "out", *options)
    assert done.exit_code != 0
    assert words in f"{done.output} {done.exception}"
    assert not (tmp_path / "out").exists()


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    file = network_file(tmp_path / "cut.onnx")
    file.write_bytes(file.read_bytes()[:100])
    done = run(file, tmp_path / "out")
    assert "cut.onnx is not an ONNX model that can be read" in f"{done.output} {done.exception}"

"""Real bundles, small enough to make in a test: their outputs react to the brightness of the frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.graph.bundle import (
    MANIFEST_FILE,
    FrameSize,
    Manifest,
    Stage,
    Tensor,
    Thresholds,
    Training,
    sha256_of,
)
from models.graph.vocabulary import ATTENTION, CONTACTING, OBJECT_CLASSES, OBJECT_INDEX, PREDICATES, SPATIAL

SIZE = 32
CLIP_LENGTH = 4
PAIRS = 2
# Frames darker than this hold nobody.
DARK = 0.05

_DTYPES = {"uint8": TensorProto.UINT8, "bool": TensorProto.BOOL, "float32": TensorProto.FLOAT}


def make_tiny_bundle(folder: Path, *, name: str = "tiny") -> Path:
    """Writes a bundle of two stages: `brightness` measures each frame, `pairs` places a person who holds a cup and sits
    on a chair. The right edge of the person's box is 0.2 + 0.7 * brightness, as a fraction of the width.
    """
    return _write_bundle(folder, name, _clip_stages(), family="one_stage")


def make_video_bundle(folder: Path, *, name: str = "tiny-video") -> Path:
    """Writes the bundle of `make_tiny_bundle` with two more stages: `doubts` of clips and `relevance` of the video.

    Of every predicate the epistemic uncertainty is brightness / 10, the aleatoric one the timestamp / 100. The relation
    score of the cup is the frame's brightness, that of the chair its timestamp, each as a share of the video's largest.
    """
    brightness, timestamps = _tensor("brightness", 1, 1), _tensor("timestamps")
    depth = (PAIRS, len(PREDICATES))
    doubts = Stage(
        name="doubts",
        file="doubts.onnx",
        inputs=[brightness, timestamps],
        outputs=[_tensor("epistemic", *depth), _tensor("aleatoric", *depth)],
    )
    relevance = Stage(
        name="relevance",
        file="relevance.onnx",
        inputs=[timestamps, brightness],
        outputs=[_tensor("relation_scores", PAIRS)],
        span="video",
    )
    stages = [*_clip_stages(), (doubts, _doubt()), (relevance, _compare())]
    return _write_bundle(folder, name, stages, family="two_stage", relation_scoring=True)


def _clip_stages() -> list[tuple[Stage, _Graph]]:
    frames = Tensor(name="frames", dtype="uint8", shape=("batch", "time", SIZE, SIZE, 3))
    brightness = _tensor("brightness", 1, 1)
    pairs = [
        Tensor(name="pair_mask", dtype="bool", shape=("batch", "time", PAIRS)),
        _tensor("subject_boxes", PAIRS, 4),
        _tensor("subject_scores", PAIRS),
        _tensor("object_boxes", PAIRS, 4),
        _tensor("object_scores", PAIRS, len(OBJECT_CLASSES)),
        _tensor("attention", PAIRS, len(ATTENTION)),
        _tensor("spatial", PAIRS, len(SPATIAL)),
        _tensor("contacting", PAIRS, len(CONTACTING)),
    ]
    return [
        (Stage(name="brightness", file="brightness.onnx", inputs=[frames], outputs=[brightness]), _measure()),
        (Stage(name="pairs", file="pairs.onnx", inputs=[brightness], outputs=pairs), _place()),
    ]


def _tensor(name: str, *depth: int) -> Tensor:
    return Tensor(name=name, dtype="float32", shape=("batch", "time", *depth))


def _write_bundle(folder: Path, name: str, stages: list[tuple[Stage, _Graph]], **rest: Any) -> Path:
    folder.mkdir(parents=True)
    for stage, graph in stages:
        _write(folder / stage.file, graph, stage)
    manifest = Manifest(
        name=name,
        version="1",
        description="reacts to brightness; for tests",
        frame_size=FrameSize(height=SIZE, width=SIZE),
        clip_length=CLIP_LENGTH,
        stages=[stage for stage, _ in stages],
        thresholds=Thresholds(object_score=0.1, predicate_score=0.3, duplicate_iou=0.7),
        training=Training(data="none", command="none"),
        sha256={stage.file: sha256_of(folder / stage.file) for stage, _ in stages},
        **rest,
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2))
    return folder


class _Graph:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def _measure() -> _Graph:
    graph = _Graph()
    values = graph.add("Cast", ["frames"], "values", to=TensorProto.FLOAT)
    axes = graph.constant("axes", np.array([3, 4]))
    columns = graph.add("ReduceMean", [values, axes], "columns", keepdims=0)  # (B, T, SIZE)
    last = graph.constant("last", np.array([2]))
    mean = graph.add("ReduceMean", [columns, last], "mean", keepdims=1)  # (B, T, 1)
    wide = graph.add("Unsqueeze", [mean, graph.constant("end", np.array([3]))], "wide")  # (B, T, 1, 1)
    graph.add("Div", [wide, graph.constant("full", np.array(255, np.float32))], "brightness")
    return graph


def _place() -> _Graph:
    graph = _Graph()
    zero = graph.constant("zero", np.array(0, np.float32))
    nothing = graph.add("Mul", ["brightness", zero], "nothing")  # (B, T, 1, 1)
    trailing = graph.constant("trailing", np.array([3]))

    def always(output: str, value: NDArray[np.float32]) -> None:
        graph.add("Add", [nothing, graph.constant(f"{output}_value", value)], output)

    is_light = graph.add("Greater", ["brightness", graph.constant("dark", np.array(DARK, np.float32))], "is_light")
    slots = graph.constant("slots", np.ones((1, PAIRS), np.bool_))
    graph.add("And", [is_light, slots], "wide_mask")
    # (B, T, 1, 1) and (1, P) broadcast to (B, T, 1, P): drop the third axis.
    graph.add("Squeeze", ["wide_mask", graph.constant("third", np.array([2]))], "pair_mask")

    base = np.tile(np.array([0.1, 0.1, 0.2, 0.9], np.float32), (PAIRS, 1))
    grows = np.tile(np.array([0, 0, 0.7, 0], np.float32), (PAIRS, 1))
    growth = graph.add("Mul", ["brightness", graph.constant("grows", grows)], "growth")
    graph.add("Add", [growth, graph.constant("base", base)], "subject_boxes")
    always("object_boxes", np.array([[0.3, 0.3, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]], np.float32))

    scores = np.zeros((PAIRS, len(OBJECT_CLASSES)), np.float32)
    scores[0, OBJECT_INDEX["cup/glass/bottle"]] = 0.8
    scores[1, OBJECT_INDEX["chair"]] = 0.7
    always("object_scores", scores)
    always("attention", _rows(ATTENTION, {"looking_at": 0.9}, {"not_looking_at": 0.8}))
    always("spatial", _rows(SPATIAL, {"in_front_of": 0.7}, {"beneath": 0.6}))
    always("contacting", _rows(CONTACTING, {"holding": 0.95, "touching": 0.5}, {"sitting_on": 0.85}))
    graph.add("Add", [nothing, graph.constant("certain", np.full((PAIRS, 1), 0.9, np.float32))], "wide_scores")
    graph.add("Squeeze", ["wide_scores", trailing], "subject_scores")
    return graph


def _doubt() -> _Graph:
    graph = _Graph()
    every = graph.constant("every", np.zeros((PAIRS, len(PREDICATES)), np.float32))
    dim = graph.add("Div", ["brightness", graph.constant("ten", np.array(10, np.float32))], "dim")
    graph.add("Add", [dim, every], "epistemic")
    late = graph.add("Div", ["timestamps", graph.constant("hundred", np.array(100, np.float32))], "late")
    wide = graph.add("Unsqueeze", [late, graph.constant("ends", np.array([2, 3]))], "wide")  # (B, T, 1, 1)
    graph.add("Add", [wide, every], "aleatoric")
    return graph


def _compare() -> _Graph:
    graph = _Graph()
    end = graph.constant("end", np.array([2]))
    time = graph.constant("time", np.array([1]))
    tiny = graph.constant("tiny", np.array(1e-6, np.float32))
    slots = [
        graph.add("Squeeze", ["brightness", graph.constant("last", np.array([3]))], "cup"),  # (B, T, 1)
        graph.add("Unsqueeze", ["timestamps", end], "chair"),
    ]
    shares = []
    for slot in slots:
        largest = graph.add("ReduceMax", [slot, time], f"largest_{slot}", keepdims=1)  # (B, 1, 1)
        above_zero = graph.add("Max", [largest, tiny], f"above_zero_{slot}")
        shares.append(graph.add("Div", [slot, above_zero], f"share_{slot}"))
    graph.add("Concat", shares, "relation_scores", axis=2)
    return graph


def _rows(names: tuple[str, ...], *slots: dict[str, float]) -> NDArray[np.float32]:
    return np.array([[slot.get(name, 0.05) for name in names] for slot in slots], np.float32)


def _write(path: Path, graph: _Graph, stage: Stage) -> None:
    def describe(tensor: Tensor) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(tensor.name, _DTYPES[tensor.dtype], tensor.shape)

    body = helper.make_graph(
        graph.nodes,
        stage.name,
        [describe(t) for t in stage.inputs],
        [describe(t) for t in stage.outputs],
        graph.constants,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)

"""Real bundles, small enough to make in a test: their outputs react to the brightness of the frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from models.graph.vocabulary import ACTION_GENOME, PredicateGroup, Vocabulary

SIZE = 32
CLIP_LENGTH = 4
PAIRS = 2
# Frames darker than this hold nobody.
DARK = 0.05

_DTYPES = {
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
    "int64": TensorProto.INT64,
    "float32": TensorProto.FLOAT,
}
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Slot:
    """One pair that a bundle sees in every frame that is not dark.

    subject: its label.
    subject_box: as a fraction of the frame; `growth` times the brightness is added to its right edge.
    thing: label of the thing, with its `box` and `score`.
    predicates: scores; those that are left out get 0.05.
    """

    subject: str
    subject_box: Box
    growth: float
    thing: str
    box: Box
    score: float
    predicates: Mapping[str, float]


TINY = (
    Slot(
        "person", (0.1, 0.1, 0.2, 0.9), 0.7, "cup/glass/bottle", (0.3, 0.3, 0.4, 0.4), 0.8,
        {"looking_at": 0.9, "in_front_of": 0.7, "holding": 0.95, "touching": 0.5},
    ),
    Slot(
        "person", (0.1, 0.1, 0.2, 0.9), 0.7, "chair", (0.5, 0.5, 0.9, 0.9), 0.7,
        {"not_looking_at": 0.8, "beneath": 0.6, "sitting_on": 0.85},
    ),
)  # fmt: skip

TWO_PEOPLE = (
    Slot(
        "person", (0.05, 0.1, 0.25, 0.9), 0.0, "table", (0.1, 0.5, 0.4, 0.95), 0.8,
        {"looking_at": 0.9, "in_front_of": 0.7, "touching": 0.8},
    ),
    Slot(
        "person", (0.75, 0.1, 0.95, 0.9), 0.0, "table", (0.6, 0.5, 0.9, 0.95), 0.7,
        {"not_looking_at": 0.8, "behind": 0.6, "sitting_on": 0.85},
    ),
)  # fmt: skip

MADE_UP = Vocabulary(
    objects=("robot", "Förderband Nº 2", "crate", "Müslischüssel/Jar", "person", "<b>Pipe & {}", "Gabelstapler"),
    subjects=("person", "robot"),
    groups=(
        PredicateGroup(
            name="handling",
            predicates=("lifting", "pushes", "grips_with_both_arms"),
            phrases={"lifting": "lifts", "grips_with_both_arms": "grips {} with both arms"},
        ),
        PredicateGroup(
            name="placing", predicates=("stacked over", "next_to"), direction="object_to_subject", exclusive=True
        ),
    ),
)
"""Words that no data set has, some of them hard on those who print them."""
MADE_UP_SLOTS = (
    Slot(
        "person", (0.05, 0.1, 0.2, 0.9), 0.2, "Müslischüssel/Jar", (0.15, 0.3, 0.3, 0.45), 0.8,
        {"lifting": 0.9, "next_to": 0.7, "stacked over": 0.3},
    ),
    Slot(
        "robot", (0.6, 0.1, 0.7, 0.9), 0.3, "<b>Pipe & {}", (0.5, 0.6, 0.95, 0.8), 0.75,
        {"grips_with_both_arms": 0.85, "pushes": 0.4, "stacked over": 0.8},
    ),
)  # fmt: skip


def make_tiny_bundle(folder: Path, *, name: str = "tiny") -> Path:
    """Writes a bundle of two stages: `brightness` measures each frame, `pairs` places a person who holds a cup and sits
    on a chair. The right edge of the person's box is 0.2 + 0.7 * brightness, as a fraction of the width.
    """
    return _write_bundle(folder, name, _clip_stages(ACTION_GENOME, TINY), family="one_stage")


def make_two_people_bundle(folder: Path, *, name: str = "two-people") -> Path:
    """Writes a bundle that sees two persons far apart, each at a table of its own."""
    return _write_bundle(folder, name, _clip_stages(ACTION_GENOME, TWO_PEOPLE), family="two_stage")


def make_made_up_bundle(folder: Path, *, name: str = "made-up") -> Path:
    """Writes a bundle with a vocabulary of its own, `MADE_UP`: a person and a robot, each with one thing."""
    stages = _clip_stages(MADE_UP, MADE_UP_SLOTS)
    return _write_bundle(folder, name, stages, family="one_stage", vocabulary=MADE_UP)


def make_video_bundle(folder: Path, *, name: str = "tiny-video") -> Path:
    """Writes the bundle of `make_tiny_bundle` with two more stages: `doubts` of clips and `relevance` of the video.

    Of every predicate the epistemic uncertainty is brightness / 10, the aleatoric one the timestamp / 100. The relation
    score of the cup is the frame's brightness, that of the chair its timestamp, each as a share of the video's largest.
    """
    brightness, timestamps = _tensor("brightness", 1, 1), _tensor("timestamps")
    depth = (PAIRS, len(ACTION_GENOME.predicates))
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
    stages = [*_clip_stages(ACTION_GENOME, TINY), (doubts, _doubt()), (relevance, _compare())]
    return _write_bundle(folder, name, stages, family="two_stage", relation_scoring=True)


def _clip_stages(vocabulary: Vocabulary, slots: Sequence[Slot]) -> list[tuple[Stage, _Graph]]:
    frames = Tensor(name="frames", dtype="uint8", shape=("batch", "time", SIZE, SIZE, 3))
    brightness = _tensor("brightness", 1, 1)
    pairs = [
        Tensor(name="pair_mask", dtype="bool", shape=("batch", "time", PAIRS)),
        _tensor("subject_boxes", PAIRS, 4),
        _tensor("subject_scores", PAIRS),
        _tensor("object_boxes", PAIRS, 4),
        _tensor("object_scores", PAIRS, len(vocabulary.objects)),
        *(_tensor(group.name, PAIRS, len(group.predicates)) for group in vocabulary.groups),
    ]
    if len(vocabulary.subjects) > 1:
        pairs.append(Tensor(name="subject_classes", dtype="int64", shape=("batch", "time", PAIRS)))
    return [
        (Stage(name="brightness", file="brightness.onnx", inputs=[frames], outputs=[brightness]), _measure()),
        (Stage(name="pairs", file="pairs.onnx", inputs=[brightness], outputs=pairs), _place(vocabulary, slots)),
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


def _place(vocabulary: Vocabulary, slots: Sequence[Slot]) -> _Graph:
    graph = _Graph()
    zero = graph.constant("zero", np.array(0, np.float32))
    nothing = graph.add("Mul", ["brightness", zero], "nothing")  # (B, T, 1, 1)
    trailing = graph.constant("trailing", np.array([3]))

    def always(output: str, value: NDArray[np.float32]) -> None:
        graph.add("Add", [nothing, graph.constant(f"{output}_value", value)], output)

    is_light = graph.add("Greater", ["brightness", graph.constant("dark", np.array(DARK, np.float32))], "is_light")
    every_slot = graph.constant("slots", np.ones((1, PAIRS), np.bool_))
    graph.add("And", [is_light, every_slot], "wide_mask")
    # (B, T, 1, 1) and (1, P) broadcast to (B, T, 1, P): drop the third axis.
    third = graph.constant("third", np.array([2]))
    graph.add("Squeeze", ["wide_mask", third], "pair_mask")

    base = np.array([slot.subject_box for slot in slots], np.float32)
    grows = np.array([[0, 0, slot.growth, 0] for slot in slots], np.float32)
    growth = graph.add("Mul", ["brightness", graph.constant("grows", grows)], "growth")
    graph.add("Add", [growth, graph.constant("base", base)], "subject_boxes")
    always("object_boxes", np.array([slot.box for slot in slots], np.float32))

    scores = np.zeros((PAIRS, len(vocabulary.objects)), np.float32)
    for place, slot in enumerate(slots):
        scores[place, vocabulary.object_index[slot.thing]] = slot.score
    always("object_scores", scores)
    for group in vocabulary.groups:
        rows = [[slot.predicates.get(name, 0.05) for name in group.predicates] for slot in slots]
        always(group.name, np.array(rows, np.float32))
    graph.add("Add", [nothing, graph.constant("certain", np.full((PAIRS, 1), 0.9, np.float32))], "wide_scores")
    graph.add("Squeeze", ["wide_scores", trailing], "subject_scores")
    if len(vocabulary.subjects) > 1:
        classes = np.array([[vocabulary.object_index[slot.subject] for slot in slots]])  # (1, P)
        whole = graph.add("Cast", ["nothing"], "whole", to=TensorProto.INT64)
        graph.add("Add", [whole, graph.constant("classes", classes)], "wide_classes")
        graph.add("Squeeze", ["wide_classes", third], "subject_classes")
    return graph


def _doubt() -> _Graph:
    graph = _Graph()
    every = graph.constant("every", np.zeros((PAIRS, len(ACTION_GENOME.predicates)), np.float32))
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

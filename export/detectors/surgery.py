"""Builds the stage `detector` around an ONNX detector: frames to its input, its outputs to boxes, and the choice."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.detectors.opening import ROWS, OnnxDetector, Reading
from export.detectors.readings import RowReading
from export.nodes import NodeWriter, at_opset, opset_of
from export.onnx import BATCH, OPSET, TIME, export_stages
from models.graph.bundle import FRAMES
from models.networks.detectors.choosing import Choosing
from models.networks.stages import NetworkStage

_STAGE = "detector"


class _Read(nn.Module):
    """Reads a detector's values, (B, T, Q, …) each, and chooses pairs among its boxes."""

    def __init__(self, reading: Reading, choosing: Choosing) -> None:
        super().__init__()
        self.reading = reading
        self.choosing = choosing

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        clip = values[0].shape[:2]
        boxes, scores = self.reading(*(value.flatten(0, 1) for value in values))
        return tuple(tensor.unflatten(0, clip) for tensor in self.choosing(boxes, scores))


def write_detector_stage(detector: OnnxDetector, choosing: Choosing, needed: Set[str], path: Path) -> None:
    """Writes the stage from `frames` to the outputs of `choosing` that are needed, as one ONNX file.

    Raises ExportError where the detector's operators cannot be brought to the set of operators that the stage needs.
    """
    model = at_opset(detector.model, max(OPSET, opset_of(detector.model)))
    chosen = at_opset(_export_choice(detector, choosing, needed), opset_of(model))
    model, chosen = onnx.compose.add_prefix(model, "model/"), onnx.compose.add_prefix(chosen, "choice/")
    graph = NodeWriter("frames")
    pixels = _prepare(graph, detector)
    if detector.one_by_one:
        values = _run_one_by_one(graph, detector, model, pixels)
    else:
        values = _run(graph, detector, model, pixels)
    clip = graph.add("Shape", FRAMES, start=0, end=2)
    given = {}
    for place, (value, depth) in enumerate(zip(values, detector.rows, strict=True)):
        shape = graph.add("Concat", clip, graph.constant(depth), axis=0)
        given[f"choice/value_{place}"] = graph.add("Reshape", value, shape)
    graph.insert(chosen, given)
    outputs = []
    for value in chosen.graph.output:
        name = value.name.removeprefix("choice/")
        graph.add("Identity", value.name, output=name)
        outputs.append(onnx.ValueInfoProto(name=name, type=value.type))
    height, width = detector.picture.size
    frames = helper.make_tensor_value_info(FRAMES, TensorProto.UINT8, [BATCH, TIME, height, width, 3])
    body = helper.make_graph(
        graph.nodes, _STAGE, [frames], outputs, graph.constants, sparse_initializer=graph.sparse
    )  # fmt: skip
    opsets = {each.domain: each for each in [*chosen.opset_import, *model.opset_import]}
    stage = helper.make_model(body, opset_imports=list(opsets.values()))
    stage.ir_version = max(model.ir_version, chosen.ir_version)
    onnx.save(stage, str(path))


def _export_choice(detector: OnnxDetector, choosing: Choosing, needed: Set[str]) -> onnx.ModelProto:
    """Exports reading and choice, from `value_0`, `value_1`, … (B, T, Q, …) on."""
    names = tuple(f"value_{place}" for place in range(len(detector.rows)))
    stage = NetworkStage("choice", _Read(detector.reading, choosing).eval(), names, choosing.outputs, "frame")
    random = np.random.default_rng(0)
    arrays = {
        name: random.random((2, 3, *depth), np.float32) if place < 2 else random.integers(0, 2, (2, 3, *depth))
        for place, (name, depth) in enumerate(zip(names, detector.rows, strict=True))
    }
    with TemporaryDirectory() as folder:
        export_stages([stage], arrays, needed, choosing.config.clip_length, Path(folder))
        return onnx.load(str(Path(folder) / "choice.onnx"))


def _prepare(graph: NodeWriter, detector: OnnxDetector) -> str:
    """Adds what turns frames (B, T, H, W, 3) into what the detector takes, (B * T, …)."""
    picture, numbers = detector.picture, detector.normalisation
    pixels = graph.add("Reshape", FRAMES, graph.constant([-1, *picture.size, 3]))
    if numbers.bgr:
        pixels = graph.add("Gather", pixels, graph.constant([2, 1, 0]), axis=3)
    if picture.kind != TensorProto.UINT8:
        factor = numbers.scale / 255 / np.array(numbers.std, np.float32)
        shift = np.array(numbers.mean, np.float32) / np.array(numbers.std, np.float32)
        pixels = graph.add("Cast", pixels, to=TensorProto.FLOAT)
        pixels = graph.add("Mul", pixels, graph.constant(factor.astype(np.float32)))
        pixels = graph.add("Sub", pixels, graph.constant(shift.astype(np.float32)))
        pixels = graph.add("Cast", pixels, to=picture.kind)
    return pixels if picture.channels_last else graph.add("Transpose", pixels, perm=[0, 3, 1, 2])


def _run(graph: NodeWriter, detector: OnnxDetector, model: onnx.ModelProto, pixels: str) -> list[str]:
    """Adds the detector itself. Returns the values that are read, (N, Q, …) each.

    pixels: (N, …), where N is 1 if the detector takes one frame at a time.
    """
    picture = detector.picture
    given = pixels
    if not picture.has_batch:
        given = graph.add("Squeeze", pixels, graph.constant([0]))
    inputs = {f"model/{picture.name}": given}
    for name, value in detector.extras.items():
        constant = graph.constant(value)
        if not detector.one_by_one:
            count = graph.add("Shape", pixels, start=0, end=1)
            shape = graph.add("Concat", count, graph.constant(value.shape[1:]), axis=0)
            constant = graph.add("Expand", constant, shape)
        inputs[f"model/{name}"] = constant
    graph.insert(model, inputs)
    values = []
    for source, kind in zip(detector.sources, _kinds(detector), strict=True):
        read = f"model/{source.output}"
        if source.columns is not None:
            only = len(source.columns) == 1
            places = np.array(source.columns[0] if only else source.columns, np.int64)
            read = graph.add("Gather", read, graph.constant(places), axis=-1)
        read = graph.add("Cast", read, to=kind)
        if not detector.has_batch_axis:
            read = graph.add("Unsqueeze", read, graph.constant([0]))
        values.append(read)
    return _best_rows(graph, values) if detector.open_rows else values


def _kinds(detector: OnnxDetector) -> list[int]:
    """Returns ONNX's number of the type of each value: floats, but for the numbers of classes."""
    floats: list[int] = [TensorProto.FLOAT] * len(detector.sources)
    return [*floats[:-1], TensorProto.INT64] if isinstance(detector.reading, RowReading) else floats


def _best_rows(graph: NodeWriter, values: list[str]) -> list[str]:
    """Adds what keeps the `ROWS` best of any number of boxes (N, M, 4), scores (N, M) and labels (N, M).

    Rows that are missing have a score of 0.
    """
    boxes, scores, labels = (
        graph.add("Pad", value, graph.constant([0, 0, *[0] * depth, 0, ROWS, *[0] * depth]))
        for value, depth in zip(values, (1, 0, 0), strict=True)
    )
    best = graph.add("TopK", scores, graph.constant([ROWS]), axis=1)
    places = f"{best}_places"
    labels = graph.add("GatherElements", labels, places, axis=1)
    rows = graph.add("Unsqueeze", places, graph.constant([2]))
    return [graph.add("GatherND", boxes, rows, batch_dims=1), best, labels]


def _run_one_by_one(graph: NodeWriter, detector: OnnxDetector, model: onnx.ModelProto, pixels: str) -> list[str]:
    """Adds an operator `Scan` that runs the detector on frame after frame of `pixels` (N, …)."""
    body = NodeWriter("frame")
    frame = body.add("Unsqueeze", "frame", body.constant([0]))
    values = [body.add("Squeeze", value, body.constant([0])) for value in _run(body, detector, model, frame)]
    picture, kinds = detector.picture, _kinds(detector)
    axes = [*picture.size, 3] if picture.channels_last else [3, *picture.size]
    scanned = helper.make_graph(
        body.nodes, "frame", [helper.make_tensor_value_info("frame", picture.kind, axes)],
        [
            helper.make_tensor_value_info(value, kind, depth)
            for value, kind, depth in zip(values, kinds, detector.rows, strict=True)
        ],
        body.constants, sparse_initializer=body.sparse,
    )  # fmt: skip
    outputs = [f"frames/value_{place}" for place in range(len(values))]
    graph.nodes.append(helper.make_node("Scan", [pixels], outputs, body=scanned, num_scan_inputs=1))
    return outputs

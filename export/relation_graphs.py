"""Bundles of ONNX networks that give the boxes and the relations of single frames, such as REACT++.

Such a network has two outputs, `boxes` (N, 6): left, top, right and bottom in pixels of its input, the number of the
class from 1 and a score; and `rels` (M, 5): rows of the subject and of the object among the boxes, the number of the
predicate, the score of the triplet and that of the predicate. Its metadata name the classes. REACT++'s exporter lists
the background as the first predicate, which no row has, and leaves it out of the objects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from onnx.inliner import inline_local_functions
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from export.bundle import write_bundle
from export.detectors.pictures import Picture, find_inputs
from export.errors import ExportError
from export.nodes import NodeWriter, at_opset, opset_of
from export.onnx import BATCH, OPSET, TIME, describe_stage, export_stages
from export.placing import written_whole
from models.engines.onnxruntime import open_session
from models.graph.bundle import FRAMES, Bundle, FrameSize, Manifest, Name, Thresholds, Training, Weights, sha256_of
from models.graph.predictions import prediction_names
from models.graph.validation import first_mistake, in_words
from models.graph.vocabulary import PredicateGroup, Vocabulary
from models.networks.stages import NetworkStage

ROWS = 100
"""Most relations of a frame that are read, those of the highest scores."""
GROUP = "relation"
CLIP_LENGTH = 8
_STAGE = "scene_graph"
_PADDING = 114
"""Grey around the frame, as the YOLO family pads."""
_OBJECTS, _PREDICATES = "obj_classes", "rel_classes"
_PERSONS = frozenset(
    {
        "person", "people", "man", "men", "woman", "women", "boy", "girl", "child", "kid", "baby", "guy", "lady",
        "player", "skier", "surfer",
    }
)  # fmt: skip
_NAMES: TypeAdapter[list[str]] = TypeAdapter(list[str])


@dataclass(frozen=True)
class RelationGraph:
    """An ONNX network whose outputs are boxes and relations.

    boxes, relations: names of its outputs.
    first_predicate: number of the vocabulary's first predicate.
    """

    model: onnx.ModelProto
    picture: Picture
    boxes: str
    relations: str
    vocabulary: Vocabulary
    first_predicate: int


class ReadRelations(nn.Module):
    """Turns rows of relations into predictions: a slot holds a pair, with all predicates that rows give it."""

    subjects: Tensor
    edges: Tensor
    size: Tensor

    def __init__(
        self, vocabulary: Vocabulary, first_predicate: int, frame_size: tuple[int, int], side: tuple[int, int]
    ) -> None:
        """
        first_predicate: number of the vocabulary's first predicate.
        frame_size: height and width of the frames.
        side: height and width of the network's input, in the middle of which a frame lies.
        """
        super().__init__()
        self.first_predicate = first_predicate
        self.objects, self.predicates = len(vocabulary.objects), len(vocabulary.predicates)
        self.register_buffer("subjects", torch.tensor(vocabulary.subject_indices), persistent=False)
        top, left = (side[0] - frame_size[0]) // 2, (side[1] - frame_size[1]) // 2
        self.register_buffer("edges", torch.tensor((left, top, left, top), dtype=torch.float32), persistent=False)
        height, width = frame_size
        self.register_buffer("size", torch.tensor((width, height) * 2, dtype=torch.float32), persistent=False)
        self.outputs = (
            "pair_mask", "subject_boxes", "subject_scores", "object_boxes", "object_scores", GROUP, "subject_classes"
        )  # fmt: skip

    def forward(self, relations: Tensor, subjects: Tensor, objects: Tensor) -> tuple[Tensor, ...]:
        """Returns the predictions in the order of `outputs`.

        relations: (B, T, K, 5), the rows of the highest scores first; missing ones have a score of 0.
        subjects: (B, T, K, 6), the box of each row's subject.
        objects: (B, T, K, 6), the box of each row's object.
        """
        subject_classes, object_classes = subjects[..., 4].long() - 1, objects[..., 4].long() - 1
        predicates = relations[..., 2].long() - self.first_predicate
        is_real = (relations[..., 3] > 0) & (predicates >= 0)
        is_pair = is_real & self._may_act(subject_classes) & ~self._may_act(object_classes)
        pair = relations[..., :2]
        same = (pair[..., :, None, :] == pair[..., None, :, :]).all(-1) & is_pair[..., None, :]  # (B, T, K, K)
        places = torch.arange(pair.shape[-2], device=pair.device)
        is_first = ~(same & (places[None, :] < places[:, None])).any(-1)
        scores = F.one_hot(predicates.clamp(min=0), self.predicates) * relations[..., 4:]  # (B, T, K, R)
        joined = torch.where(same[..., None], scores[..., None, :, :], 0.0).amax(-2)
        return (
            is_pair & is_first,
            self._fractions(subjects),
            subjects[..., 5].clamp(0, 1),
            self._fractions(objects),
            F.one_hot(object_classes.clamp(min=0), self.objects) * objects[..., 5:].clamp(0, 1),
            joined.clamp(0, 1),
            subject_classes.clamp(min=0),
        )

    def _may_act(self, classes: Tensor) -> Tensor:
        return (classes[..., None] == self.subjects).any(-1)

    def _fractions(self, boxes: Tensor) -> Tensor:
        corners: Tensor = ((boxes[..., :4] - self.edges) / self.size).clamp(0, 1)
        return corners


def open_relation_graph(path: Path, subjects: Sequence[str] = ()) -> RelationGraph:
    """Reads an ONNX network and runs it on a grey frame.

    Raises ExportError where the file is no ONNX model, does not run, gives other outputs or does not name its classes.

    subjects: classes that may be subjects; where empty, those that are persons.
    """
    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{path} is not an ONNX model that can be read: {reason}") from error
    model = inline_local_functions(model) if model.functions else model
    if len(model.graph.output) < 2:
        outputs = ", ".join(value.name for value in model.graph.output) or "none"
        raise ExportError(
            f"{path} has the outputs {outputs}: give a network with two, boxes (N, 6) and relations (M, 5); a detector "
            "alone is joined with relations by `vsg join`"
        )
    vocabulary, first_predicate = _vocabulary(
        {entry.key: entry.value for entry in model.metadata_props}, subjects, path
    )
    picture, extras = find_inputs(model, (640, 640) if _is_open(model) else None)
    if extras or picture.channels_last or not picture.has_batch or picture.kind != TensorProto.FLOAT:
        raise ExportError(f"{path} takes more or other than pictures (1, 3, height, width) of float32: export it again")
    names = [value.name for value in model.graph.output][:2]
    with TemporaryDirectory() as folder:
        onnx.save(model, str(Path(folder) / "network.onnx"))
        session = open_session(Path(folder) / "network.onnx")
        grey = np.full((1, 3, *picture.size), _PADDING / 255, np.float32)
        try:
            shapes = [np.shape(value) for value in session.run(names, {picture.name: grey})]
        except Exception as error:  # ONNX Runtime's own exceptions share no base class but this one
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(f"{path} does not run: {reason}") from error
    if [shape[1:] for shape in shapes] != [(6,), (5,)]:
        raise ExportError(
            f"{path} gives outputs of shapes {shapes[0]} and {shapes[1]}: give a network of boxes (N, 6) and relations "
            "(M, 5)"
        )
    return RelationGraph(model, picture, names[0], names[1], vocabulary, first_predicate)


def bundle_relation_graph(
    network: RelationGraph,
    out: Path,
    *,
    frame_size: tuple[int, int],
    description: str,
    command: str,
    weights: Weights,
) -> Bundle:
    """Writes the bundle of a network of single frames, and loads it back, verified.

    frame_size: height and width that frames are stretched to; they lie in the middle of the network's input.

    Raises ExportError where the frame does not fit into the input, or a field does not fit into the manifest.
    """
    side = network.picture.size
    if frame_size[0] > side[0] or frame_size[1] > side[1]:
        raise ExportError(
            f"--frame-size is {frame_size[1]}x{frame_size[0]}, but the network's input has {side[1]}x{side[0]} pixels: "
            "give a size that fits into it, of your videos' shape"
        )
    try:
        TypeAdapter(Name).validate_python(out.name)
    except ValidationError as error:
        raise ExportError(f"OUT cannot be a name, {out.name!r}: {first_mistake(error).reason}") from error
    with written_whole(out) as own:
        path = own / f"{_STAGE}.onnx"
        _write_stage(network, frame_size, path)
        stage = describe_stage(_STAGE, "frame", path)
        try:
            manifest = Manifest(
                name=out.name, version="1", family="one_stage", description=description, vocabulary=network.vocabulary,
                frame_size=FrameSize(height=frame_size[0], width=frame_size[1]), clip_length=CLIP_LENGTH,
                stages=[stage], thresholds=Thresholds(), training=Training(data="unknown", command=command),
                weights=[weights], sha256={stage.file: sha256_of(path)},
            )  # fmt: skip
        except ValidationError as error:
            raise ExportError(f"the manifest cannot be written: {in_words(error, 'the manifest')}") from error
        write_bundle(own, manifest)
    return Bundle.load(out)


def _is_open(model: onnx.ModelProto) -> bool:
    known = {value.name for value in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in known]
    return any(not axis.dim_value for value in inputs for axis in value.type.tensor_type.shape.dim[2:])


def _vocabulary(metadata: Mapping[str, str], subjects: Sequence[str], path: Path) -> tuple[Vocabulary, int]:
    """Returns the vocabulary that the metadata name, and the number of its first predicate."""
    names = {}
    for key in (_OBJECTS, _PREDICATES):
        try:
            names[key] = _NAMES.validate_python(json.loads(metadata[key]))
        except (KeyError, ValueError) as error:
            raise ExportError(
                f"{path} does not name its classes: its metadata have no list {key!r} of names; export it again with "
                f"{_OBJECTS} and {_PREDICATES}"
            ) from error
    objects, predicates = map(_without_background, names.values())
    if unknown := [name for name in subjects if name not in objects]:
        raise ExportError(f"--subject is {unknown[0]!r}, which is none of its classes: {', '.join(objects[:10])} …")
    chosen = [*subjects] or [name for name in objects if name.lower() in _PERSONS]
    if not chosen or len(chosen) == len(objects):
        raise ExportError(
            f"{path} names {len(objects)} classes, of which {len(chosen)} may act ({', '.join(objects[:10])} …): say "
            "with --subject which ones, and leave some to act upon"
        )
    try:
        vocabulary = Vocabulary(
            objects=tuple(objects),
            subjects=tuple(chosen),
            groups=(PredicateGroup(name=GROUP, predicates=tuple(predicates)),),
        )
    except ValidationError as error:
        raise ExportError(f"{path}: its classes make no vocabulary: {in_words(error)}") from error
    return vocabulary, len(names[_PREDICATES]) - len(predicates)


def _without_background(names: list[str]) -> list[str]:
    """Returns names without a first one that stands for no class at all."""
    return names[1:] if names and names[0].strip("_").lower() == "background" else names


def _write_stage(network: RelationGraph, frame_size: tuple[int, int], path: Path) -> None:
    """Writes the stage from `frames` to predictions, as one ONNX file."""
    model = at_opset(network.model, max(OPSET, opset_of(network.model)))
    reading = at_opset(_export_reading(network, frame_size), opset_of(model))
    model, reading = onnx.compose.add_prefix(model, "model/"), onnx.compose.add_prefix(reading, "reading/")
    graph = NodeWriter("frames")
    rows = {"relations": 5, "subjects": 6, "objects": 6}
    values = [f"frames/{name}" for name in rows]
    height, width = frame_size
    pixels = graph.add("Reshape", FRAMES, graph.constant([-1, height, width, 3]))
    graph.nodes.append(
        helper.make_node("Scan", [pixels], values, body=_frame_body(network, model, frame_size), num_scan_inputs=1)
    )
    clip = graph.add("Shape", FRAMES, start=0, end=2)
    given = {}
    for (name, columns), value in zip(rows.items(), values, strict=True):
        shape = graph.add("Concat", clip, graph.constant([ROWS, columns]), axis=0)
        given[f"reading/{name}"] = graph.add("Reshape", value, shape)
    graph.insert(reading, given)
    outputs = []
    for value in reading.graph.output:
        name = value.name.removeprefix("reading/")
        graph.add("Identity", value.name, output=name)
        outputs.append(onnx.ValueInfoProto(name=name, type=value.type))
    frames = helper.make_tensor_value_info(FRAMES, TensorProto.UINT8, [BATCH, TIME, height, width, 3])
    body = helper.make_graph(graph.nodes, _STAGE, [frames], outputs, graph.constants, sparse_initializer=graph.sparse)
    opsets = {each.domain: each for each in [*reading.opset_import, *model.opset_import]}
    stage = helper.make_model(body, opset_imports=list(opsets.values()))
    stage.ir_version = max(model.ir_version, reading.ir_version)
    onnx.save(stage, str(path))


def _frame_body(network: RelationGraph, model: onnx.ModelProto, frame_size: tuple[int, int]) -> onnx.GraphProto:
    """Returns what runs the network on one frame (H, W, 3): its `ROWS` best relations and the boxes of each."""
    body, (height, width), side = NodeWriter("frame"), frame_size, network.picture.size
    top, left = (side[0] - height) // 2, (side[1] - width) // 2
    pixels = body.add("Cast", "frame", to=TensorProto.FLOAT)
    padding = body.constant([top, left, 0, side[0] - height - top, side[1] - width - left, 0])
    pixels = body.add("Pad", pixels, padding, body.constant(np.array(_PADDING, np.float32)))
    pixels = body.add("Div", pixels, body.constant(np.array(255, np.float32)))
    pixels = body.add("Transpose", pixels, perm=[2, 0, 1])
    body.insert(model, {f"model/{network.picture.name}": body.add("Unsqueeze", pixels, body.constant([0]))})
    boxes, relations = f"model/{network.boxes}", f"model/{network.relations}"
    boxes = body.add("Concat", boxes, body.constant(np.zeros((1, 6), np.float32)), axis=0)
    relations = body.add("Concat", relations, body.constant(np.zeros((ROWS, 5), np.float32)), axis=0)
    scores = body.add("Gather", relations, body.constant(np.array(3)), axis=1)
    best = body.add("TopK", scores, body.constant([ROWS]), axis=0)
    relations = body.add("Gather", relations, f"{best}_places", axis=0)
    values = [relations]
    for column in (0, 1):
        rows = body.add("Gather", relations, body.constant(np.array(column)), axis=1)
        values.append(body.add("Gather", boxes, body.add("Cast", rows, to=TensorProto.INT64), axis=0))
    return helper.make_graph(
        body.nodes, "frame", [helper.make_tensor_value_info("frame", TensorProto.UINT8, [height, width, 3])],
        [
            helper.make_tensor_value_info(value, TensorProto.FLOAT, [ROWS, columns])
            for value, columns in zip(values, (5, 6, 6), strict=True)
        ],
        body.constants, sparse_initializer=body.sparse,
    )  # fmt: skip


def _export_reading(network: RelationGraph, frame_size: tuple[int, int]) -> onnx.ModelProto:
    """Exports `ReadRelations`, from (B, T, ROWS, …) on."""
    reading = ReadRelations(network.vocabulary, network.first_predicate, frame_size, network.picture.size).eval()
    names = ("relations", "subjects", "objects")
    arrays = {name: np.ones((2, 3, ROWS, columns), np.float32) for name, columns in zip(names, (5, 6, 6), strict=True)}
    stage = NetworkStage("reading", reading, names, reading.outputs, "frame")
    asked = prediction_names(network.vocabulary)
    if len(network.vocabulary.subjects) == 1:
        asked = asked - {"subject_classes"}
    with TemporaryDirectory() as folder:
        export_stages([stage], arrays, asked, CLIP_LENGTH, Path(folder))
        return onnx.load(str(Path(folder) / "reading.onnx"))

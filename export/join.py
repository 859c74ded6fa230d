"""Joins any object detector with a relation network that needs no pixels: a bundle of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from export.bundle import write_bundle
from export.compact import store_compactly
from export.detectors.classes import match_classes, vocabulary_of_classes, vocabulary_with
from export.detectors.opening import Flags, OnnxDetector
from export.detectors.sources import Opened, open_source
from export.detectors.surgery import write_detector_stage
from export.errors import ExportError
from export.join_settings import JoinSettings
from export.onnx import describe_stage, export_stages, sample_inputs
from models.engines import bundle_inputs, open_stages, run_stages
from models.engines.onnxruntime import open_session
from models.errors import ConfigurationError
from models.graph.bundle import (
    FRAMES,
    RELATION_SCORES,
    Bundle,
    FrameSize,
    Manifest,
    Name,
    Training,
    Weights,
    sha256_of,
)
from models.graph.predictions import prediction_names
from models.graph.validation import first_mistake, in_words
from models.graph.vocabulary import Vocabulary
from models.networks.checkpoint import load_checkpoint, load_part
from models.networks.detectors.choosing import Choosing
from models.networks.detectors.fused import Fused, FusingConfig
from models.networks.detectors.object_detector import ObjectDetector, detector_stage
from models.networks.pose import PoseNetwork, pose_stage
from models.networks.relations.layout import Layout
from models.networks.relations.names import SHIPPED_TABLE, NameTable
from models.networks.relations.pose_evidence import PoseEvidence
from models.networks.relations.prior_shift import PriorShift
from models.networks.scored import Scored, relation_stages


@dataclass(frozen=True)
class ClassOptions:
    """The way that a detector's classes meet the vocabulary.

    table: class to object, before names and synonyms are tried; None drops a class.
    keep: whether the classes become the vocabulary's objects as they are.
    subjects: with `keep`, the classes that may be subjects; the vocabulary's subjects by default.
    further: classes that become objects of the vocabulary beside those that it has.
    name_table: with `keep` or `further`, the file with the embeddings of their names.
    """

    table: Mapping[str, str | None] | None = None
    keep: bool = False
    subjects: Sequence[str] = ()
    further: Sequence[str] = ()
    name_table: Path = SHIPPED_TABLE


@dataclass(frozen=True)
class Matched:
    """A detector's classes and a relation network that knows the objects they mean.

    table: class to object of the vocabulary.
    dropped: classes that mean nothing in it.
    """

    relations: Layout | Scored
    table: Mapping[str, str]
    dropped: Sequence[str]

    @property
    def layout(self) -> Layout:
        """The relation network without its relation scorer."""
        host = self.relations.host if isinstance(self.relations, Scored) else self.relations
        assert isinstance(host, Layout)  # `read_relations` takes no other
        return host


def read_relations(path: Path) -> tuple[Layout | Scored, dict[str, Any]]:
    """Returns a relation network that needs no pixels, and the origin of its weights.

    Raises WeightsError where the file is no checkpoint, ExportError where the network needs pixels.
    """
    network, provenance = load_checkpoint(path)
    if isinstance(network, Layout) or (isinstance(network, Scored) and isinstance(network.host, Layout)):
        return network, provenance
    raise ExportError(
        f"{path} holds a {network.config.network} network, which needs its own detector's features: "
        "give a layout network, with or without a relation scorer"
    )


def fuse(first: Opened, source: str, config: FusingConfig) -> Opened:
    """Returns an opened detector and the one that a source names as one detector, with the weights of both.

    Raises ExportError where one is an ONNX file, is not there, or where they do not fit together.

    source: as for `open_source`.
    """
    if isinstance(first.detector, OnnxDetector) or Path(source).suffix == ".onnx":
        raise ExportError(
            f"{'DETECTOR' if isinstance(first.detector, OnnxDetector) else source} is an ONNX file, and --second fuses "
            "detectors in torch only: give a checkpoint (`vsg import`) or torchvision:NAME for both, or leave it out"
        )
    second = open_source(source, None, Flags())
    assert not isinstance(second.detector, OnnxDetector)
    try:
        fused = Fused(first.detector, second.detector, config).eval()
    except ConfigurationError as error:
        raise ExportError(str(error)) from error
    data = ", ".join(dict.fromkeys((first.data, second.data)))
    return Opened(fused, [*first.weights, *second.weights], data, first.said)


def read_pose(path: Path) -> tuple[PoseNetwork, dict[str, Any]]:
    """Returns a pose network and the origin of its weights.

    Raises WeightsError where the file is no checkpoint of a part, ExportError where it is another part.
    """
    network, provenance = load_part(path)
    if not isinstance(network, PoseNetwork):
        raise ExportError(
            f"{path} holds a {network.config.network} network: --pose needs one that `vsg import pose` made"
        )
    return network, provenance


def with_objects(relations: Layout | Scored, vocabulary: Vocabulary, names: NameTable) -> Layout | Scored:
    """Returns the network for other objects and the same groups of predicates.

    Raises WeightsError where the table has no embedding of an object's name.
    """
    network = type(relations)(relations.config, vocabulary)  # type: ignore[arg-type]
    known = relations.vocabulary.object_index
    state = relations.state_dict()
    for name, value in state.items():
        if name.endswith("object_embeddings"):
            state[name] = names.embeddings(vocabulary.objects)
        elif name.endswith("affordances"):  # of a new object, everything can be said
            everything = torch.ones_like(value[0])
            state[name] = torch.stack(
                [value[known[each]] if each in known else everything for each in vocabulary.objects]
            )
    network.load_state_dict(state)
    return network.eval()


def match_detector(names: Sequence[str], relations: Layout | Scored, classes: ClassOptions) -> Matched:
    """Finds the object of the vocabulary for each of a detector's classes.

    Raises ExportError where the table does not fit, or where no class means a subject or a thing, WeightsError where
    a class that is kept has no embedding.
    """
    if classes.keep or classes.further:
        known = relations.vocabulary
        vocabulary = (
            vocabulary_of_classes(names, classes.subjects, known)
            if classes.keep
            else vocabulary_with(names, classes.further, known)
        )
        relations = with_objects(relations, vocabulary, NameTable(classes.name_table))
    table = match_classes(names, relations.vocabulary, classes.table)
    meant, dropped = set(table.values()), [name for name in dict.fromkeys(names) if name and name not in table]
    for kind, wanted in (("subjects", relations.vocabulary.subjects), ("things", relations.vocabulary.things)):
        if meant.isdisjoint(wanted):
            raise ExportError(
                f"none of the detector's classes ({', '.join(dropped[:8])} …) means one of the vocabulary's {kind} "
                f"({', '.join(wanted[:8])} …): say with --table which do, or use --keep-classes"
            )
    return Matched(relations, table, dropped)


def join(
    detector: OnnxDetector | ObjectDetector,
    matched: Matched,
    folder: Path,
    *,
    name: str,
    version: str,
    description: str,
    training: Training,
    settings: JoinSettings = JoinSettings(),  # noqa: B008 - frozen
    weights: Sequence[Weights] = (),
    pose: PoseNetwork | None = None,
) -> Bundle:
    """Writes the bundle of a detector and a relation network, and loads it back, verified.

    pose: finds the keypoints of persons, which then shift the scores of the predicates that they bear on.

    Raises ExportError where a field does not fit into the manifest or the detector's operators do not fit.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        # Before the minutes that exporting takes.
        raise ExportError(f"the manifest cannot hold name {name!r}: {first_mistake(error).reason}") from error
    vocabulary = matched.relations.vocabulary
    config = settings.choosing
    evidence = None if pose is None else PoseEvidence(vocabulary)
    try:
        shift = PriorShift(vocabulary, settings.prior_shifts) if settings.prior_shifts else None
        matched.layout.never_say(settings.never_said)
    except ConfigurationError as error:
        raise ExportError(str(error)) from error
    rest = [] if pose is None else [pose_stage(pose)]
    rest += relation_stages(matched.relations, evidence, shift)
    asked = prediction_names(vocabulary)
    frame_size = detector.picture.size if isinstance(detector, OnnxDetector) else detector.frame_size
    try:
        choosing = Choosing(config, detector.names, matched.table, vocabulary, frame_size)
    except ConfigurationError as error:
        raise ExportError(str(error)) from error
    folder.mkdir(parents=True, exist_ok=True)
    needed = asked | {name for stage in rest for name in stage.inputs}
    given = sample_inputs(frame_size, config.clip_length)
    if isinstance(detector, OnnxDetector):
        path = folder / "detector.onnx"
        write_detector_stage(detector, choosing, needed, path)
        first = describe_stage("detector", "frame", path)
        outputs = [tensor.name for tensor in first.outputs]
        values = open_session(path).run(outputs, {FRAMES: given[FRAMES]})
        known = run_stages(rest, given | dict(zip(outputs, values, strict=True)))
        stages = [first, *export_stages(rest, known, asked, config.clip_length, folder)]
    else:
        chain = [detector_stage(detector, choosing), *rest]
        stages = export_stages(chain, run_stages(chain, given), asked, config.clip_length, folder)
    for stage in stages:
        store_compactly(folder / stage.file)
    try:
        manifest = Manifest(
            name=name,
            version=version,
            family="two_stage",
            description=description,
            vocabulary=vocabulary,
            frame_size=FrameSize(height=frame_size[0], width=frame_size[1], fit=settings.fit),
            clip_length=config.clip_length,
            stages=stages,
            thresholds=settings.thresholds,
            scoring=settings.scoring,
            statements=settings.statements,
            relation_scoring=any(tensor.name == RELATION_SCORES for stage in stages for tensor in stage.outputs),
            training=training,
            weights=list(weights),
            sha256={stage.file: sha256_of(folder / stage.file) for stage in stages},
        )
    except ValidationError as error:
        raise ExportError(f"the manifest cannot be written: {in_words(error, 'the manifest')}") from error
    bundle = write_bundle(folder, manifest)
    _run_other_shapes(bundle)
    return bundle


def _run_other_shapes(bundle: Bundle) -> None:
    """Runs one frame, and a clip longer than those that the stages were traced with.

    Raises ExportError where a stage takes no other shapes than these.
    """
    size, stages = bundle.manifest.frame_size, open_stages(bundle, "onnxruntime-cpu")
    for time in (1, bundle.manifest.clip_length):
        frames = np.random.default_rng(time).integers(0, 256, (1, time, size.height, size.width, 3), np.uint8)
        try:
            run_stages(stages, bundle_inputs(frames, np.arange(time) / 2))
        except Exception as error:  # ONNX Runtime's own exceptions share no base class but this one
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(
                f"{bundle.folder} cannot run {time} frames at once ({reason}): "
                "export the detector again with a batch of any size, or join it with --one-by-one"
            ) from error

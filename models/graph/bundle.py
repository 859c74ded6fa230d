"""Bundles: folders that export writes and the service reads.

A bundle is `manifest.json` beside one or more `.onnx` files. The manifest holds all that a runtime needs. It has the
sha256 of each file, so that a bundle that was cut short or altered is refused before it serves.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import BundleError
from models.graph.duplicates import DUPLICATE_IOU, RIVAL_CLASS_IOU, SAME_SUBJECT_CONTAINMENT
from models.graph.fitting import Fit, Size, spanned
from models.graph.predictions import FIELD_NAMES, PERSON_FIELDS, prediction_depths
from models.graph.validation import in_words
from models.graph.vocabulary import ACTION_GENOME, Vocabulary

# Seconds that an object may be unseen and keep its id, unless a bundle says otherwise.
LONGEST_GAP = 2.0

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = 1

FRAMES = "frames"
"""(batch, time, height, width, 3) uint8 RGB: the input of a bundle."""
TIMESTAMPS = "timestamps"
"""(batch, time) float32: presentation times of the sampled frames, in seconds from the beginning of the video."""
PICTURE_SIZE = "picture_size"
"""(batch, time, 2) float32: width and height of the displayed video in pixels, the same for all frames."""
RELATION_SCORES = "relation_scores"
"""(batch, time, pairs) float32: the output of a relation scorer."""
SUBJECT_CLASSES = "subject_classes"
"""(batch, time, pairs) int64: indices of the subjects into the vocabulary's objects."""
_READ = {FRAMES: "uint8", TIMESTAMPS: "float32", PICTURE_SIZE: "float32"}
"""What a bundle is given, with its dtype."""

Span = Literal["frame", "clip", "video"]
"""The part of a video that a stage must see at once.

`frame`: each frame by itself, so frames of different videos may share a batch.
`clip`: any few consecutive frames.
`video`: all sampled frames.
"""

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""The number type that a bundle is computed in. No precision changes the types of inputs and outputs.

`fp16`, `int8`: the graphs mark the parts in this type; the rest is fp32.
`bf16`: the graphs are fp32, and the engine computes most of them in bf16.
"""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Positive = Annotated[int, Field(gt=0)]
Score = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tensor(_Part):
    """One input or output of a stage. Symbolic axes are strings (`batch`, `time`); all others are fixed."""

    name: str
    dtype: Literal["uint8", "bool", "int64", "float32"]
    shape: tuple[Positive | str, ...]


class Stage(_Part):
    """One ONNX graph.

    Its inputs are `frames` (uint8 RGB, (batch, time, height, width, 3)), `timestamps` (float32 seconds, (batch, time)),
    `picture_size` (float32 pixels, (batch, time, 2)) or tensors of stages before it. Axes 0 and 1 of every input and
    output are batch and time.
    """

    name: str
    file: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    span: Span = "clip"


class FrameSize(_Part):
    """The size of the frames that a bundle takes. Boxes that it gives are fractions of the frame.

    fit: how pictures of another shape fill it. Only `pad` keeps their shape.
    """

    height: Positive
    width: Positive
    fit: Fit = "stretch"

    def spanned(self, picture: Size) -> tuple[float, float]:
        """Returns the width and height that the whole frame would have in pixels of the picture (width, height)."""
        return spanned((self.width, self.height), picture, self.fit)


class Thresholds(_Part):
    """Thresholds that the service uses.

    object_score: object score x subject score below which a pair is not shown.
    predicate_score: predicate score below which a triplet is not shown.
    relation_score: relation score below which a pair's triplets are not shown, where the model has a relation scorer.
        Its subject and its thing are shown all the same.
    duplicate_iou: IoU over which two boxes of one class are one thing.
    triplet_score: score below which a triplet is not shown, unless its predicate says little: then its score is low
        because it is hardly worth telling, not because it is doubtful.
    lone_subject_score: score below which a subject that no shown pair has is not shown, where the model tells of such.
    """

    object_score: Score = 0.3
    predicate_score: Score = 0.2
    relation_score: Score = 0.0
    duplicate_iou: Annotated[float, Field(gt=0, le=1)] = DUPLICATE_IOU
    triplet_score: Score = 0.0
    lone_subject_score: Score = 0.5


class Scoring(_Part):
    """Parameters of a triplet's score = subject x object x sharpened predicate x relation^relation_exponent.

    predicate_temperature: power that the odds p / (1 - p) of each predicate score are raised to. Over 1 it sharpens.
    relation_exponent: power of the relation score. 0 leaves it out of the ranking.
    """

    predicate_temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    relation_exponent: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0


class Statements(_Part):
    """Settings of the way from detections to statements. The defaults leave every step out.

    least_sightings: frames that must show an object, but never more than half of them. A video of a few frames shows
        all objects.
    least_seconds: seconds for which frames must show an object, all of them together, but never more than half of the
        video. It is `least_sightings` for any number of frames a second.
    least_best_score: score that an object must have in one frame at least.
    sure_subject_score: score that makes up for sightings and seconds: a subject that two frames show so surely is
        shown, however short it is there. None makes no exception.
    sure_thing_score: score that makes up for seconds: a thing that `least_sightings` frames show so surely is shown.
    rival_iou: IoU over which boxes of two classes are one object, of the surer class.
    rival_subject_iou: IoU over which the box of a thing and that of a surer subject show the subject alone. 1 keeps all
        things.
    contained_share: share of the smaller of two boxes of one class within the other, over which both are one object.
    contained_subject_share: the same for two subjects. 1 keeps a child in front of an adult, and parts of people too.
    longest_gap: seconds without a thing, after which it comes back with a new id. One missed frame is always allowed.
        It may exceed that of subjects, 2 s, because a thing is seen only while a subject is, and rarely walks away.
    smoothing_seconds: length of the window around a frame over which the predicate scores and the relation score of a
        pair are averaged, along the tracks of its subject and its thing.
    bridged_seconds: most seconds between two frames that show a relation which goes on between them. One missed frame
        is always bridged.
    least_stated_seconds: seconds for which a predicate must hold of a subject and an object, in all frames together,
        but never more than half of the video.
    little_weight: factor of the score of a triplet whose predicate says little, or scores less than one of its group
        that does.
    """

    least_sightings: Positive = 1
    least_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    least_best_score: Score = 0.0
    sure_subject_score: Score | None = None
    sure_thing_score: Score | None = None
    rival_iou: Annotated[float, Field(gt=0, le=1)] = RIVAL_CLASS_IOU
    rival_subject_iou: Annotated[float, Field(gt=0, le=1)] = 1.0
    contained_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    contained_subject_share: Annotated[float, Field(gt=0, le=1)] = SAME_SUBJECT_CONTAINMENT
    longest_gap: Annotated[float, Field(ge=0, le=60)] = LONGEST_GAP
    smoothing_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    bridged_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    least_stated_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    little_weight: Annotated[float, Field(gt=0, le=1)] = 1.0


class Training(_Part):
    """The origin of the weights.

    figures: metric to value, by world and constraint.
    network: the network's configuration as checkpoints store it, for engines that build the network themselves with
        `models.networks.checkpoint.make_network`.
    """

    data: str
    command: str
    seed: int | None = None
    figures: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)
    network: dict[str, Any] | None = None


class Weights(_Part):
    """Weights that come from elsewhere.

    name: name of the network or of its file.
    origin: the place they come from, such as an address, in the words of who made the bundle.
    licence: licence of the weights, such as `Apache-2.0`.
    sha256: of the file that they were read from.
    """

    name: str
    origin: str
    licence: str
    sha256: str


class PrecisionCost(_Part):
    """The cost of the precision: SGDet R@20, no constraint, of the bundle on `engine` and of its fp32 original."""

    data: str
    engine: str
    recall: Score
    fp32_recall: Score


class Manifest(_Part):
    """The contract between export and service (`manifest.json`)."""

    format: Literal[1] = 1
    name: Name
    version: str
    family: Literal["one_stage", "two_stage"]
    description: str
    vocabulary: Vocabulary = ACTION_GENOME
    frame_size: FrameSize
    clip_length: Positive = Field(description="most frames a stage takes along `time`, unless its span is `video`")
    stages: list[Stage] = Field(min_length=1)
    thresholds: Thresholds
    scoring: Scoring = Scoring()
    statements: Statements = Statements()
    relation_scoring: bool = False
    precision: Precision = "fp32"
    precision_cost: PrecisionCost | None = None
    training: Training
    weights: list[Weights] = Field(default_factory=list)
    sha256: dict[str, str] = Field(description="of every file of the bundle but the manifest")

    @model_validator(mode="after")
    def _every_stage_file_is_hashed(self) -> Manifest:
        for stage in self.stages:
            if stage.file not in self.sha256:
                raise ValueError(f"sha256 has no entry for {stage.file!r}, the file of stage {stage.name!r}")
        return self

    @model_validator(mode="after")
    def _what_is_read_has_its_dtype(self) -> Manifest:
        for stage in self.stages:
            for tensor in stage.inputs:
                if tensor.dtype != _READ.get(tensor.name, tensor.dtype):
                    raise ValueError(
                        f"stage {stage.name!r} takes {tensor.name} as {tensor.dtype}; it is {_READ[tensor.name]}"
                    )
        return self

    @model_validator(mode="after")
    def _whole_videos_come_last_and_never_as_frames(self) -> Manifest:
        for earlier, later in pairwise(self.stages):
            if earlier.span == "video" and later.span != "video":
                raise ValueError(
                    f"stage {later.name!r} of span {later.span} comes after {earlier.name!r} of span video; "
                    "put it before"
                )
        for stage in self.stages:
            if stage.span == "video" and FRAMES in {tensor.name for tensor in stage.inputs}:
                raise ValueError(
                    f"stage {stage.name!r} of span video takes {FRAMES}, which would hold a whole video in memory; "
                    "give it what a stage of span frame or clip makes of them"
                )
        return self

    @model_validator(mode="after")
    def _relation_scoring_is_what_the_stages_say(self) -> Manifest:
        scores = RELATION_SCORES in {tensor.name for stage in self.stages for tensor in stage.outputs}
        if scores != self.relation_scoring:
            raise ValueError(
                f"relation_scoring is {str(self.relation_scoring).lower()}, but "
                f"{'a' if scores else 'no'} stage has an output {RELATION_SCORES!r}"
            )
        return self

    @model_validator(mode="after")
    def _stages_make_what_the_vocabulary_says(self) -> Manifest:
        if taken := sorted({*FIELD_NAMES, *_READ} & set(self.vocabulary.group_names)):
            raise ValueError(f"a group of predicates is named {taken[0]!r}, as another tensor is; give it another name")
        outputs = {tensor.name: tensor for stage in self.stages for tensor in stage.outputs}
        if len(self.vocabulary.subjects) > 1 and SUBJECT_CLASSES not in outputs:
            raise ValueError(
                f"the vocabulary has {len(self.vocabulary.subjects)} subjects, but no stage has an output "
                f"{SUBJECT_CLASSES!r}, which says the one of each pair"
            )
        for name, depth in prediction_depths(self.vocabulary).items():
            if name in outputs and not _fits(outputs[name].shape, depth):
                raise ValueError(
                    f"a stage makes {name} of shape {list(outputs[name].shape)}, but by the vocabulary its last axes "
                    f"after batch, time and {'persons' if name in PERSON_FIELDS else 'pairs'} are {list(depth)}"
                )
        return self


def _fits(shape: tuple[int | str, ...], depth: tuple[int, ...]) -> bool:
    """Whether the fixed axes after batch, time and pairs or persons have these lengths."""
    return all(isinstance(axis, str) or axis == count for axis, count in zip(shape[3:], depth, strict=False))


class Bundle:
    """A verified bundle on disk."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Reads and verifies a bundle.

        Raises BundleError, naming the field or the file, where the manifest is missing, malformed or of a format that
        this version does not understand, or where a file is missing, altered or outside the folder.
        """
        path = folder / MANIFEST_FILE
        if not path.is_file():
            raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST_FILE}; write one with `vsg export`")
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            words = in_words(error, "the manifest")
            raise BundleError(f"{path}: {words}; export the bundle again with this version") from error
        for name, expected in manifest.sha256.items():
            file = folder / name
            if file.resolve().parent != folder.resolve():
                raise BundleError(f"{path}: sha256: {name!r} lies outside the bundle")
            if not file.is_file():
                raise BundleError(f"{path}: sha256: {name!r} is missing; copy the whole folder")
            if (found := sha256_of(file)) != expected:
                raise BundleError(f"{file} has been altered: its sha256 is {found}, the manifest says {expected}")
        return cls(folder, manifest)

    def path_of(self, stage: Stage) -> Path:
        """Returns the path of a stage's ONNX file."""
        return self.folder / stage.file


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file's content in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

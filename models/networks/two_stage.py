"""A detector and a relation network as one network, which turns frames into scored pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.clip.crops import ClipCropEncoder
from models.networks.detectors import Detector, DetectorConfig
from models.networks.detectors.sttran_detector import SttranDetector, SttranDetectorConfig
from models.networks.relations.fremure import Fremure, FremureConfig
from models.networks.relations.mosa import Mosa, MosaConfig
from models.networks.relations.network import RelationNetwork
from models.networks.relations.object_classifier import ObjectClassifier
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.representation import union_boxes
from models.networks.relations.sttran import Sttran, SttranConfig
from models.networks.relations.sttran_classifier import SttranObjectClassifier
from models.networks.relations.tr2 import Tr2, Tr2Config
from models.networks.stages import DECODED, FRAMES, PAIR_MASK, PICTURE_SIZE, REPRESENTATION, TIMESTAMPS, NetworkStage

RelationNetworkConfig = Annotated[SttranConfig | Tr2Config | MosaConfig | FremureConfig, Field(discriminator="network")]
Task = Literal["predcls", "sgcls", "sgdet"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TwoStageConfig:
    """Parts of a two-stage network. Raises ConfigurationError where the detector does not fit the relation network.

    task: task that the relation network is trained for. SGCls adds a classifier of given boxes.
    """

    detector: Annotated[DetectorConfig | SttranDetectorConfig, Field(discriminator="network")]
    relations: RelationNetworkConfig
    task: Task = "sgdet"
    network: Literal["two_stage"] = "two_stage"

    def __post_init__(self) -> None:
        if self.relations.whole_video and isinstance(self.detector, DetectorConfig) and self.detector.persons > 1:
            raise ConfigurationError(
                f"relations.whole_video follows one subject, but detector.persons is {self.detector.persons}: "
                "switch one of them off"
            )
        for field, given in what_it_gives(self.detector).items():
            if (asked := getattr(self.relations, field)) != given:
                raise ConfigurationError(
                    f"relations.{field} is {asked}, but the detector gives {given}: make them agree"
                )


def what_it_gives(detector: DetectorConfig | SttranDetectorConfig) -> dict[str, Any]:
    """Returns the fields of `RelationConfig` that a detector decides, with their values."""
    return {
        "feature_width": detector.feature_width,
        "union_channels": detector.map_channels,
        "union_size": detector.region_size,
    }


def make_relation_network(config: RelationNetworkConfig, vocabulary: Vocabulary = ACTION_GENOME) -> RelationNetwork:
    """Builds the relation network that a configuration describes, with fresh weights."""
    match config:
        case SttranConfig():
            return Sttran(config, vocabulary)
        case Tr2Config():
            return Tr2(config, vocabulary)
        case MosaConfig():
            return Mosa(config, vocabulary)
        case FremureConfig():
            return Fremure(config, vocabulary)


def make_detector(
    config: DetectorConfig | SttranDetectorConfig, vocabulary: Vocabulary = ACTION_GENOME
) -> Detector | SttranDetector:
    """Builds the detector that a configuration describes, with fresh weights."""
    match config:
        case DetectorConfig():
            return Detector(config, vocabulary)
        case SttranDetectorConfig():
            return SttranDetector(config, vocabulary)


class TwoStage(nn.Module):
    """A detector and a relation network. Its `stages` solve SGDet. The detector is never trained here."""

    def __init__(self, config: TwoStageConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.detector = make_detector(config.detector, vocabulary).requires_grad_(False)
        self.relations = make_relation_network(config.relations, vocabulary)
        self.object_classifier = self._make_classifier() if config.task == "sgcls" else None
        # It has random weights at first: a checkpoint brings its own, and training loads them once.
        self.crops = ClipCropEncoder(pretrained=False) if config.relations.clip_features else None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.config.detector.frame_height, self.config.detector.frame_width

    @property
    def slots_are_ranked(self) -> bool:
        """Always true: the detector sorts pairs by score, so that near ties may change places."""
        return True

    @property
    def clip_length(self) -> int:
        """Most frames that run at once."""
        return self.config.detector.clip_length

    @property
    def representation_width(self) -> int:
        """D, width of the representation that a relation scorer reads."""
        return self.config.relations.width

    def train(self, mode: bool = True) -> TwoStage:
        """Sets the training mode of all parts but the detector, whose batch norms keep their statistics."""
        super().train(mode)
        self.detector.eval()
        return self

    def with_crops(self, pairs: Pairs, frames: Tensor) -> Pairs:
        """Adds CLIP's features of the pairs' regions, where the relation network reads them.

        frames: (B, T, H, W, 3) uint8.
        """
        if self.crops is None:
            return pairs
        around = union_boxes(pairs.subject_boxes, pairs.object_boxes)
        return replace(pairs, crop_features=self.crops(frames, around, pairs.mask))

    def forward(self, pairs: Pairs) -> Relations:
        """Returns the relation network's scores of the pairs, whatever found them."""
        relations: Relations = self.relations(pairs)
        return relations

    def given_pairs(
        self,
        frames: Tensor,
        timestamps: Tensor,
        boxes: Tensor,
        labels: Tensor,
        mask: Tensor,
        picture_size: Tensor | None = None,
    ) -> Pairs:
        """Makes pairs of given boxes, as this network's task defines it. The subject's own slot stays empty.

        PredCls uses the labels as they are. SGCls ignores them: the detector chooses the subject's box, and the
        classifier names the objects.

        frames: (B, T, H, W, 3) uint8.
        timestamps: (B, T) seconds.
        boxes: (B, T, N, 4) corner boxes as fractions of the frame, the subject's first.
        labels: (B, T, N) int64, indices into the vocabulary's objects.
        mask: (B, T, N) bool, true where there is a box.
        picture_size: (B, T, 2) float32, pixels of the displayed video; None for those of the frames.
        """
        if isinstance(self.detector, SttranDetector):
            if picture_size is None:
                height, width = self.frame_size
                picture_size = boxes.new_tensor((width, height)).expand(*mask.shape[:2], 2)
            classifier = self.object_classifier
            assert classifier is None or isinstance(classifier, SttranObjectClassifier)
            found = self.detector.given_pairs(frames, timestamps, boxes, mask, picture_size, classifier)
            return with_labels(found, labels) if classifier is None else found
        if self.object_classifier is None:
            found = self.detector.given_pairs(frames, timestamps, boxes, mask, person_first=True)
            return self.with_crops(with_labels(found, labels, labels[..., :1]), frames)
        pairs = self.detector.given_pairs(frames, timestamps, boxes, mask, person_first=False)
        pairs = self.with_crops(pairs, frames)
        return replace(pairs, object_scores=self.classify(pairs).softmax(-1) * pairs.mask[..., None])

    def given_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Runs `given_pairs` on named tensors. Returns the pairs under the names of the detector stage's outputs."""
        names = (FRAMES, TIMESTAMPS, "boxes", "labels", "mask", PICTURE_SIZE)
        pairs = self.given_pairs(*(tensors[name] for name in names if name in tensors))
        return dict(zip(self._detected, _as_tuple(pairs), strict=True))

    def classify(self, pairs: Pairs) -> Tensor:
        """Returns logits (B, T, P, C) of the pairs' objects. Raises ConfigurationError where the task is not SGCls."""
        if self.object_classifier is None:
            raise ConfigurationError(f"a network for {self.config.task} has no object classifier: take one for sgcls")
        logits: Tensor = self.object_classifier(pairs.object_features, pairs.object_scores, pairs.object_boxes)
        return logits

    def _make_classifier(self) -> ObjectClassifier | SttranObjectClassifier:
        if isinstance(self.config.detector, SttranDetectorConfig):
            return SttranObjectClassifier(self.config.relations, len(self.vocabulary.objects))
        return ObjectClassifier(self.config.relations, self.vocabulary)

    def stages(self) -> list[NetworkStage]:
        """Returns the stages: `detector` turns frames into pairs, `relations` pairs into predicate scores.

        With `whole_video`, `representation` stands between them, and `relations` takes whole videos.
        """
        return [*self.stages_of_clips(), *self.stages_of_videos()]

    def stages_of_clips(self, *, classified: bool = True) -> list[NetworkStage]:
        """Returns the stages that take frames and clips; a relation scorer's follow them.

        classified: false to make `decoded` instead of predicate scores.
        """
        detection = _Detection(self)
        detector = NetworkStage("detector", detection, detection.inputs, self._detected, "frame")
        if self.config.relations.whole_video:
            representation = _Representation(self.relations, self._detected)
            return [detector, NetworkStage("representation", representation, self._detected, (REPRESENTATION,))]
        relations = _Relations(self.relations, self._detected, classified=classified)
        return [detector, NetworkStage("relations", relations, (TIMESTAMPS, *self._detected), relations.outputs)]

    def stages_of_videos(self, *, classified: bool = True) -> list[NetworkStage]:
        """Returns the stages that take whole videos; none without `whole_video`.

        classified: false to make `decoded` instead of predicate scores.
        """
        if not self.config.relations.whole_video:
            return []
        relations = _RelationsOfVideo(self.relations, classified=classified)
        return [NetworkStage("relations", relations, relations.inputs, relations.outputs, "video")]

    @property
    def _detected(self) -> tuple[str, ...]:
        """Names of the detector stage's outputs."""
        names: tuple[str, ...] = _DETECTED
        if self.crops is not None:
            names = (*names, "crop_features")
        if len(self.vocabulary.subjects) > 1:
            names = (*names, "subject_classes")
        return names


def with_labels(pairs: Pairs, labels: Tensor, subjects: Tensor | None = None) -> Pairs:
    """Returns the pairs with known classes of their objects and a certain subject.

    labels: (B, T, P) int64, the objects' indices in the vocabulary.
    subjects: (B, T, 1) or (B, T, P) int64, the subjects' indices; used where the vocabulary has several subjects.
    """
    known = F.one_hot(labels, pairs.object_scores.shape[-1]).float() * pairs.mask[..., None]
    sure = replace(pairs, object_scores=known, subject_scores=torch.ones_like(pairs.subject_scores))
    if subjects is None or pairs.subject_classes is None:
        return sure
    return replace(sure, subject_classes=subjects.expand_as(pairs.subject_classes))


_DETECTED = (
    PAIR_MASK,
    "subject_boxes",
    "subject_scores",
    "object_boxes",
    "object_scores",
    "subject_features",
    "object_features",
    "union_features",
)


class _Detection(nn.Module):
    """Returns the detector's pairs as a tuple."""

    def __init__(self, network: TwoStage) -> None:
        super().__init__()
        self.network = network
        self.inputs = (FRAMES, PICTURE_SIZE) if isinstance(network.detector, SttranDetector) else (FRAMES,)

    def forward(self, frames: Tensor, *picture_size: Tensor) -> tuple[Tensor, ...]:
        timestamps = frames.new_zeros(frames.shape[:2], dtype=torch.float32)
        pairs = self.network.detector.pairs(frames, timestamps, *picture_size)
        return _as_tuple(self.network.with_crops(pairs, frames))


def _as_tuple(pairs: Pairs) -> tuple[Tensor, ...]:
    """Returns the tensors of pairs in the order of `TwoStage._detected`."""
    optional = (pairs.crop_features, pairs.subject_classes)
    return (
        pairs.mask,
        pairs.subject_boxes,
        pairs.subject_scores,
        pairs.object_boxes,
        pairs.object_scores,
        pairs.subject_features,
        pairs.object_features,
        pairs.union_features,
        *(tensor for tensor in optional if tensor is not None),
    )


class _Representation(nn.Module):
    """Represents the pairs of the detector stage's tensors, in the order of `detected`."""

    def __init__(self, relations: RelationNetwork, detected: tuple[str, ...]) -> None:
        super().__init__()
        self.relations = relations
        self.fields = _fields_of(detected)

    def forward(self, *detected: Tensor) -> tuple[Tensor]:
        pairs = dict(zip(self.fields, detected, strict=True))
        timestamps = pairs["subject_scores"][..., 0]  # the representation reads none
        return (self.relations.representation(Pairs(timestamps=timestamps, **pairs)),)


class _Relations(nn.Module):
    """Runs the relation network on timestamps and the detector stage's tensors, in the order of `detected`."""

    def __init__(self, relations: RelationNetwork, detected: tuple[str, ...], *, classified: bool) -> None:
        super().__init__()
        self.relations = relations
        self.fields = _fields_of(detected)
        self.classified = classified
        made = predicate_outputs(relations) if classified else (DECODED,)
        self.outputs: tuple[str, ...] = (REPRESENTATION, *made)

    def forward(self, timestamps: Tensor, *detected: Tensor) -> tuple[Tensor, ...]:
        pairs = Pairs(timestamps=timestamps, **dict(zip(self.fields, detected, strict=True)))
        if self.classified:
            said: Relations = self.relations(pairs)
            return said.representation, *predicate_tensors(said, self.relations.vocabulary)
        represented = self.relations.representation(pairs)
        return represented, self.relations.decode(pairs, represented)


class _RelationsOfVideo(nn.Module):
    """Runs the relation network on the representation of a whole video's pairs."""

    inputs = (TIMESTAMPS, PAIR_MASK, "subject_boxes", "object_boxes", "object_scores", REPRESENTATION)

    def __init__(self, relations: RelationNetwork, *, classified: bool) -> None:
        super().__init__()
        self.relations = relations
        self.classified = classified
        self.outputs = predicate_outputs(relations) if classified else (DECODED,)

    def forward(
        self,
        timestamps: Tensor,
        mask: Tensor,
        subject_boxes: Tensor,
        object_boxes: Tensor,
        object_scores: Tensor,
        represented: Tensor,
    ) -> tuple[Tensor, ...]:
        nothing = represented[..., :0]  # features are not read any more
        pairs = Pairs(
            mask, subject_boxes, mask.float(), object_boxes, object_scores, nothing, nothing, nothing, timestamps
        )  # fmt: skip
        decoded = self.relations.decode(pairs, represented)
        if not self.classified:
            return (decoded,)
        said = self.relations.classify(pairs.labels, represented, decoded)
        return predicate_tensors(said, self.relations.vocabulary)


def _fields_of(detected: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the fields of `Pairs` that hold the detector stage's tensors."""
    return tuple("mask" if name == PAIR_MASK else name for name in detected)


def predicate_outputs(relations: RelationNetwork) -> tuple[str, ...]:
    """Returns the names of the tensors that `predicate_tensors` returns."""
    uncertainties = ("epistemic", "aleatoric") if relations.knows_uncertainty else ()
    return (*relations.vocabulary.group_names, *uncertainties)


def predicate_tensors(said: Relations, vocabulary: Vocabulary) -> tuple[Tensor, ...]:
    """Returns the scores of each predicate group, then the uncertainties of all predicates where there are any."""
    uncertainties = (each for each in (said.epistemic, said.aleatoric) if each is not None)
    return (
        *(said.probabilities[group] for group in vocabulary.group_names),
        *(torch.cat([each[group] for group in vocabulary.group_names], -1) for each in uncertainties),
    )

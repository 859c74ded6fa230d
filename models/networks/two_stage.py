"""A detector and a relation network as one network: frames to scored pairs."""

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
from models.networks.relations.fremure import Fremure, FremureConfig
from models.networks.relations.mosa import Mosa, MosaConfig
from models.networks.relations.network import RelationNetwork
from models.networks.relations.object_classifier import ObjectClassifier
from models.networks.relations.pairs import Pairs, Relations
from models.networks.relations.representation import union_boxes
from models.networks.relations.sttran import Sttran, SttranConfig
from models.networks.relations.tr2 import Tr2, Tr2Config
from models.networks.stages import FRAMES, PAIR_MASK, REPRESENTATION, TIMESTAMPS, NetworkStage

RelationNetworkConfig = Annotated[SttranConfig | Tr2Config | MosaConfig | FremureConfig, Field(discriminator="network")]
Task = Literal["predcls", "sgcls", "sgdet"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TwoStageConfig:
    """What a two-stage network is made of."""

    detector: DetectorConfig
    relations: RelationNetworkConfig
    task: Task = "sgdet"
    """What the relation network is trained for; SGCls adds a classifier of given boxes."""
    network: Literal["two_stage"] = "two_stage"

    def __post_init__(self) -> None:
        for field, given in what_it_gives(self.detector).items():
            if (asked := getattr(self.relations, field)) != given:
                raise ConfigurationError(f"relations.{field} is {asked}, but the detector gives {given}")


def what_it_gives(detector: DetectorConfig) -> dict[str, Any]:
    """The fields of `RelationConfig` that a detector decides."""
    return {
        "feature_width": detector.feature_width,
        "union_channels": detector.map_channels,
        "union_size": detector.region_size,
    }


def make_relation_network(config: RelationNetworkConfig, vocabulary: Vocabulary = ACTION_GENOME) -> RelationNetwork:
    """The network that a configuration describes, with fresh weights."""
    match config:
        case SttranConfig():
            return Sttran(config, vocabulary)
        case Tr2Config():
            return Tr2(config, vocabulary)
        case MosaConfig():
            return Mosa(config, vocabulary)
        case FremureConfig():
            return Fremure(config, vocabulary)


class TwoStage(nn.Module):
    """Detector and relation network; its `stages` solve SGDet. The detector is never trained here."""

    def __init__(self, config: TwoStageConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.detector = Detector(config.detector, vocabulary).requires_grad_(False)
        self.relations = make_relation_network(config.relations, vocabulary)
        self.object_classifier = ObjectClassifier(config.relations, vocabulary) if config.task == "sgcls" else None
        # Without weights of its own yet: a checkpoint has them, and training loads them once.
        self.crops = ClipCropEncoder(pretrained=False) if config.relations.clip_features else None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width that frames are stretched to."""
        return self.config.detector.frame_height, self.config.detector.frame_width

    @property
    def slots_are_ranked(self) -> bool:
        """Whether near ties may change places."""
        return True

    @property
    def clip_length(self) -> int:
        """Most frames that run at once."""
        return self.config.detector.clip_length

    @property
    def representation_width(self) -> int:
        """Width of what a relation scorer reads."""
        return self.config.relations.width

    def train(self, mode: bool = True) -> TwoStage:
        """Training mode for all but the detector, whose batch norms keep what they know."""
        super().train(mode)
        self.detector.eval()
        return self

    def with_crops(self, pairs: Pairs, frames: Tensor) -> Pairs:
        """Pairs with CLIP's features of their regions, where the relation network reads them."""
        if self.crops is None:
            return pairs
        around = union_boxes(pairs.subject_boxes, pairs.object_boxes)
        return replace(pairs, crop_features=self.crops(frames, around, pairs.mask))

    def forward(self, pairs: Pairs) -> Relations:
        """What the relation network says of pairs, however they were found."""
        relations: Relations = self.relations(pairs)
        return relations

    def given_pairs(self, frames: Tensor, timestamps: Tensor, boxes: Tensor, labels: Tensor, mask: Tensor) -> Pairs:
        """Pairs of given boxes as the task of this network has them; the subject's own slot stays empty.

        frames (B, T, H, W, 3) uint8; timestamps (B, T); boxes (B, T, N, 4): corner boxes as fractions, the subject's
        first; labels (B, T, N) int64, indices into the vocabulary's objects; mask (B, T, N) bool. PredCls takes the
        labels as they are. SGCls ignores them: the detector says which box is the subject's, the classifier what the
        objects are.
        """
        if self.object_classifier is None:
            found = self.detector.given_pairs(frames, timestamps, boxes, mask, person_first=True)
            return self.with_crops(with_labels(found, labels, labels[..., :1]), frames)
        pairs = self.detector.given_pairs(frames, timestamps, boxes, mask, person_first=False)
        pairs = self.with_crops(pairs, frames)
        return replace(pairs, object_scores=self.classify(pairs).softmax(-1) * pairs.mask[..., None])

    def given_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`given_pairs` of named tensors, named as the detector stage names its outputs."""
        pairs = self.given_pairs(*(tensors[name] for name in ("frames", "timestamps", "boxes", "labels", "mask")))
        return dict(zip(self._detected, _as_tuple(pairs), strict=True))

    def classify(self, pairs: Pairs) -> Tensor:
        """Logits (B, T, P, C) of the pairs' objects. Raises ConfigurationError where the task is not SGCls."""
        if self.object_classifier is None:
            raise ConfigurationError(f"a network for {self.config.task} has no object classifier")
        logits: Tensor = self.object_classifier(pairs.object_features, pairs.object_scores, pairs.object_boxes)
        return logits

    def stages(self) -> list[NetworkStage]:
        """Frames to detected pairs, pairs to predicates."""
        relations = _Relations(self.relations, self._detected)
        return [
            NetworkStage("detector", _Detection(self), (FRAMES,), self._detected, "frame"),
            NetworkStage("relations", relations, (TIMESTAMPS, *self._detected), relations.outputs),
        ]

    @property
    def _detected(self) -> tuple[str, ...]:
        """Names of what the detector stage gives."""
        names: tuple[str, ...] = _DETECTED
        if self.crops is not None:
            names = (*names, "crop_features")
        if len(self.vocabulary.subjects) > 1:
            names = (*names, "subject_classes")
        return names


def with_labels(pairs: Pairs, labels: Tensor, subjects: Tensor | None = None) -> Pairs:
    """Pairs whose objects have known classes, and whose subject is certain.

    labels: (B, T, P) int64.
    subjects: (B, T, 1) or (B, T, P) int64, used where the vocabulary has several.
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
    """The detector's pairs as a tuple."""

    def __init__(self, network: TwoStage) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        pairs = self.network.detector.pairs(frames, frames.new_zeros(frames.shape[:2], dtype=torch.float32))
        return _as_tuple(self.network.with_crops(pairs, frames))


def _as_tuple(pairs: Pairs) -> tuple[Tensor, ...]:
    """Pairs in the order of `TwoStage._detected`."""
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


class _Relations(nn.Module):
    """The relation network on the timestamps and the tensors of the stage before, in the order of `detected`."""

    def __init__(self, relations: RelationNetwork, detected: tuple[str, ...]) -> None:
        super().__init__()
        self.relations = relations
        self.fields = tuple("mask" if name == PAIR_MASK else name for name in detected)
        self.groups = relations.vocabulary.group_names
        self.outputs: tuple[str, ...] = (*self.groups, REPRESENTATION)
        if relations.knows_uncertainty:
            self.outputs = (*self.outputs, "epistemic", "aleatoric")

    def forward(self, timestamps: Tensor, *detected: Tensor) -> tuple[Tensor, ...]:
        pairs = Pairs(timestamps=timestamps, **dict(zip(self.fields, detected, strict=True)))
        said: Relations = self.relations(pairs)
        tensors = [*(said.probabilities[group] for group in self.groups), said.representation]
        for uncertainty in (said.epistemic, said.aleatoric):
            if uncertainty is not None:
                tensors.append(torch.cat([uncertainty[group] for group in self.groups], -1))
        return tuple(tensors)

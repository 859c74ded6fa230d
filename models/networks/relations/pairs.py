"""The input and output of relation networks: dense candidate pairs of a detector, and the scores of their relations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.graph.vocabulary import GroupName


@dataclass(frozen=True)
class Pairs:
    """Candidate pairs of B clips of T frames, P a frame, each of a subject and an object of its own.

    Boxes are corner boxes as fractions of the frame. Slots where `mask` is false hold zeros or leftovers, and must
    not change the results of other slots.

    mask: (B, T, P) bool, true where a slot holds a pair.
    subject_boxes: (B, T, P, 4) float32, the person of the pair. Pairs of one person hold equal boxes.
    subject_scores: (B, T, P) float32.
    object_boxes: (B, T, P, 4) float32.
    object_scores: (B, T, P, C) float32, the probability of each of the vocabulary's objects; a subject's is 0.
    subject_features: (B, T, P, F) float32, the detector's feature of the person's region.
    object_features: (B, T, P, F) float32.
    union_features: (B, T, P, M, S, S) float32, the feature map of the region around both boxes.
    timestamps: (B, T) float32, seconds.
    crop_features: (B, T, P, E) float32, CLIP's embedding of the region around both boxes; None without CLIP.
    subject_classes: (B, T, P) int64, indices into the vocabulary's objects; None where it has only one subject.
    """

    mask: Tensor
    subject_boxes: Tensor
    subject_scores: Tensor
    object_boxes: Tensor
    object_scores: Tensor
    subject_features: Tensor
    object_features: Tensor
    union_features: Tensor
    timestamps: Tensor
    crop_features: Tensor | None = None
    subject_classes: Tensor | None = None

    @property
    def confidence(self) -> Tensor:
        """Probabilities that the subject and the object are there: (B, T, P, 2) float32."""
        return torch.stack((self.subject_scores, self.object_scores.amax(-1)), -1)

    @property
    def labels(self) -> Tensor:
        """The most probable class of each object: (B, T, P) int64, indices into the vocabulary's objects."""
        return self.object_scores.argmax(-1)

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """Joins the pairs of consecutive frames along time."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        joined = {name: None if each[0] is None else torch.cat(each, 1) for name, each in columns.items()}
        return cls(**joined)  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> Pairs:
        """Returns the same pairs on another device."""
        moved: dict[str, Tensor] = {
            field.name: value.to(device) for field in fields(self) if (value := getattr(self, field.name)) is not None
        }
        return Pairs(**moved)


@dataclass(frozen=True)
class Relations:
    """Scores of the relations of `Pairs`.

    probabilities: by predicate group, (B, T, P, predicates of the group) in [0, 1]: a softmax for an exclusive group,
        sigmoids for any other.
    representation: (B, T, P, D), the pair as it entered the network's encoders; a relation scorer reads it.
    decoded: (B, T, P, E), the pair as it entered the network's classifiers.
    epistemic: by predicate group, shaped as the probabilities; None where the heads give no uncertainty.
    aleatoric: as `epistemic`.
    """

    probabilities: dict[GroupName, Tensor]
    representation: Tensor
    decoded: Tensor
    epistemic: dict[GroupName, Tensor] | None = None
    aleatoric: dict[GroupName, Tensor] | None = None

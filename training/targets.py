"""Ground truth as dense tensors, with which the losses compare predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.boxes import to_corners

TENSORS = ("person_boxes", "object_boxes", "object_labels", "object_mask", "predicates", "person_labels")
"""The fields of `Targets` but its vocabulary."""


@dataclass(frozen=True)
class Targets:
    """Annotations of B clips of T frames with up to M objects; boxes are centre boxes as fractions of the frame.

    person_boxes: (B, T, 4) float32, the subject of all pairs.
    object_boxes: (B, T, M, 4) float32.
    object_labels: (B, T, M) int64, indices into the vocabulary's things, which leave out its subjects.
    object_mask: (B, T, M) bool, true where there is an object.
    predicates: (B, T, M, R) float32, 1 where the pair has the predicate.
    person_labels: (B, T) int64, indices into the vocabulary's objects; None stands for its first subject everywhere.
    vocabulary: the vocabulary of the data.
    """

    person_boxes: Tensor
    object_boxes: Tensor
    object_labels: Tensor
    object_mask: Tensor
    predicates: Tensor
    person_labels: Tensor | None = None
    vocabulary: Vocabulary = ACTION_GENOME

    def by_frame(self) -> Targets:
        """Returns the same targets with clips and time merged: (B * T, …)."""
        return self._each(lambda tensor: tensor.flatten(0, 1))

    def to(self, device: torch.device | str) -> Targets:
        """Returns the same targets on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        tensors = {name: change(value) for name in TENSORS if (value := getattr(self, name)) is not None}
        return replace(self, **tensors)  # type: ignore[arg-type]

    def objects(self) -> Tensor:
        """Returns the labels as indices into the vocabulary's objects: (…, M) int64."""
        things = torch.tensor(self.vocabulary.thing_indices, device=self.object_labels.device)
        return things[self.object_labels]

    def subjects(self) -> Tensor:
        """Returns the persons as indices into the vocabulary's objects: (…,) int64."""
        if self.person_labels is not None:
            return self.person_labels
        return torch.full_like(self.object_mask[..., 0], self.vocabulary.subject_indices[0], dtype=torch.int64)

    def triplets(self) -> dict[str, Tensor]:
        """Returns multi-hot targets of H things by group: (…, M, H, predicates), 1 at the object's own class alone."""
        things = len(self.vocabulary.things)
        of_class = torch.nn.functional.one_hot(self.object_labels, things).to(self.predicates.dtype)[..., None]
        return {
            group: of_class * self.predicates[..., None, columns]
            for group, columns in self.vocabulary.group_slices.items()
        }


def annotated_boxes(targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Returns all annotated boxes of each frame, the person's first.

    Returns corner boxes as fractions (B, T, 1 + M, 4), labels (B, T, 1 + M) int64, indices into the vocabulary's
    objects, and a mask (B, T, 1 + M) bool, true for real boxes.
    """
    boxes = to_corners(torch.cat((targets.person_boxes[..., None, :], targets.object_boxes), -2))
    labels = torch.cat((targets.subjects()[..., None], targets.objects()), -1)
    mask = torch.cat((torch.ones_like(targets.object_mask[..., :1]), targets.object_mask), -1)
    return boxes, labels, mask

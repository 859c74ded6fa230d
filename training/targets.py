"""Ground truth as dense tensors: what the losses compare predictions with."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.graph.vocabulary import GROUP_SLICE, GROUPS
from models.networks.boxes import to_corners


@dataclass(frozen=True)
class Targets:
    """Annotations of B clips of T frames with up to M objects; boxes are centre boxes as fractions of the frame.

    person_boxes   (B, T, 4)      float32
    object_boxes   (B, T, M, 4)   float32
    object_labels  (B, T, M)      int64, index into the 35 classes without the person
    object_mask    (B, T, M)      bool, true where there is an object
    predicates     (B, T, M, 26)  float32, 1 where the pair has the predicate
    """

    person_boxes: Tensor
    object_boxes: Tensor
    object_labels: Tensor
    object_mask: Tensor
    predicates: Tensor

    def by_frame(self) -> Targets:
        """The same with clips and time merged: (B * T, …)."""
        return Targets(*(getattr(self, field.name).flatten(0, 1) for field in fields(self)))

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        return Targets(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))

    def triplets(self) -> dict[str, Tensor]:
        """Multi-hot triplet targets by group: (…, M, 35, predicates), 1 at the object's own class alone."""
        of_class = torch.nn.functional.one_hot(self.object_labels, 35).to(self.predicates.dtype)[..., None]
        return {group: of_class * self.predicates[..., None, GROUP_SLICE[group]] for group in GROUPS}


def annotated_boxes(targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """All annotated boxes of each frame, the person's first.

    Returns corner boxes as fractions (B, T, 1 + M, 4), labels (B, T, 1 + M) int64, indices into `OBJECT_CLASSES`, and
    which are real (B, T, 1 + M) bool.
    """
    boxes = to_corners(torch.cat((targets.person_boxes[..., None, :], targets.object_boxes), -2))
    labels = torch.cat((torch.zeros_like(targets.object_labels[..., :1]), targets.object_labels + 1), -1)
    mask = torch.cat((torch.ones_like(targets.object_mask[..., :1]), targets.object_mask), -1)
    return boxes, labels, mask

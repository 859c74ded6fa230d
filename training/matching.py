"""Hungarian matching of predicted pairs to annotated ones (ARN §3.5, after DETR)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from models.graph.vocabulary import GroupName
from models.networks.boxes import paired_generalised_iou, to_corners
from training.targets import Targets

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MatchingCosts:
    """Weights of the terms of the cost; the defaults are the paper's (GIoU: OED's)."""

    object: Weight = 1.0
    predicate: Weight = 2.0
    box: Weight = 2.5
    giou: Weight = 1.0


@torch.no_grad()
def match_pairs(
    costs: MatchingCosts,
    targets: Targets,
    object_probabilities: Tensor,
    subject_boxes: Tensor,
    object_boxes: Tensor,
    predicate_probabilities: dict[GroupName, Tensor] | None = None,
) -> Tensor:
    """Finds the query that answers for each annotated object.

    targets: by frame (N, …).
    object_probabilities: (N, Q, H), of things.
    subject_boxes, object_boxes: (N, Q, 4), centre boxes.
    predicate_probabilities: by group (N, Q, p); left out where a layer has none.

    Returns (N, M) int64 query indices; entries where the target's mask is false are 0.
    """
    labels = targets.object_labels[:, None].expand(-1, object_probabilities.shape[1], -1)
    cost = -costs.object * object_probabilities.gather(-1, labels)  # (N, Q, M)
    for predicted, annotated in ((subject_boxes, targets.person_boxes[:, None]), (object_boxes, targets.object_boxes)):
        first, second = predicted[:, :, None], annotated[:, None]
        _, giou = paired_generalised_iou(to_corners(first), to_corners(second))
        cost = cost + costs.box * (first - second).abs().sum(-1) - costs.giou * giou
    if predicate_probabilities is not None:
        slices = targets.vocabulary.group_slices
        for group, of_group in slices.items():
            cost = cost - costs.predicate / len(slices) * _agreement(
                predicate_probabilities[group], targets.predicates[..., of_group]
            )
    # The solver refuses NaN; a network that has diverged is told by its loss.
    table = cost.float().nan_to_num().cpu().numpy()
    mask = targets.object_mask.cpu().numpy()
    matched = np.zeros(mask.shape, dtype=np.int64)
    for frame in range(len(table)):
        columns = np.flatnonzero(mask[frame])
        rows, order = linear_sum_assignment(table[frame][:, columns])
        matched[frame, columns[order]] = rows
    return torch.from_numpy(matched).to(cost.device)


def _agreement(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Returns the mean probability given to what is true, present or absent: (N, Q, p), (N, M, p) -> (N, Q, M)."""
    positives = probabilities @ truth.transpose(-1, -2) / truth.sum(-1)[:, None].clamp(min=1)
    negatives = (1 - probabilities) @ (1 - truth).transpose(-1, -2) / (1 - truth).sum(-1)[:, None].clamp(min=1)
    return (positives + negatives) / 2

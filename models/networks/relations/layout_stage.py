"""The layout network as a stage of a model: it reads what a detector stage finds in the frames of a clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.relations.layout import Layout, LayoutPairs
from models.networks.relations.pose_evidence import PoseEvidence
from models.networks.relations.prior_shift import PriorShift
from models.networks.stages import PAIR_MASK, PICTURE_SIZE, REPRESENTATION, TIMESTAMPS, NetworkStage

HALF_A_SECOND = 0.5
TIME_TOLERANCE = 0.2
"""Seconds by which a frame may miss half a second before or after."""
REACH = 1.0
"""A pair in another frame is the same where its boxes' centres moved less than this, in heights of the subject."""
_FAR = 1e6


POSE = ("keypoints", "person_of_pair")
"""Inputs of the stage where pose is evidence.

keypoints: (B, T, K, J, 3) float32: x and y as fractions of the frame, and visibility.
person_of_pair: (B, T, P) int64, the subject of each pair among the K persons.
"""


def layout_stage(layout: Layout, evidence: PoseEvidence | None = None, shift: PriorShift | None = None) -> NetworkStage:
    """Returns the stage `relations`, for clips of any length from 1.

    evidence: shifts scores by pose. With it, the stage also takes what `POSE` names.
    shift: moves scores to the habits of other data.
    """
    inputs: tuple[str, ...] = (
        TIMESTAMPS,
        PICTURE_SIZE,
        PAIR_MASK,
        "subject_boxes",
        "subject_scores",
        "object_boxes",
        "object_scores",
    )
    if len(layout.vocabulary.subjects) > 1:
        inputs = (*inputs, "subject_classes")
    if evidence is not None:
        inputs = (*inputs, *POSE)
    return NetworkStage(
        "relations",
        _Relations(layout, evidence, shift, inputs),
        inputs,
        (*layout.vocabulary.group_names, REPRESENTATION),
    )


class _Relations(nn.Module):
    """Runs the layout network on a detector stage's tensors."""

    subject: Tensor
    somewhere: Tensor

    def __init__(
        self, layout: Layout, evidence: PoseEvidence | None, shift: PriorShift | None, inputs: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.layout = layout
        self.evidence = evidence
        self.shift = shift
        self.inputs = inputs
        self.register_buffer("subject", torch.tensor(layout.vocabulary.subject_indices[0]), persistent=False)
        self.register_buffer("somewhere", torch.tensor([0.0, 0.0, 1.0, 1.0]), persistent=False)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Takes the tensors that `inputs` names; returns the groups' scores and the representation."""
        given = dict(zip(self.inputs, tensors, strict=True))
        timestamps, picture_size, mask = given[TIMESTAMPS], given[PICTURE_SIZE], given[PAIR_MASK]
        confidence, objects = given["object_scores"].max(-1)  # (B, T, P) each
        subjects = given.get("subject_classes", torch.zeros_like(objects) + self.subject)
        unit = torch.cat((picture_size, picture_size), -1)[:, :, None]  # (B, T, 1, 4)
        # Empty slots hold zeros, whose boxes would have no area.
        boxes = [
            torch.where(mask[..., None], each, self.somewhere) * unit
            for each in (given["subject_boxes"], given["object_boxes"])
        ]
        around = [
            _same_pairs(timestamps, timestamps + step, mask, boxes[0], boxes[1], subjects, objects)
            for step in (-HALF_A_SECOND, HALF_A_SECOND)
        ]
        names = self.layout.object_embeddings
        said = self.layout(
            LayoutPairs(
                mask=mask,
                subject_boxes=boxes[0],
                object_boxes=boxes[1],
                before=around[0][0],
                after=around[1][0],
                seen=torch.stack((around[0][1], around[1][1]), -1),
                subject_names=names[subjects],
                object_names=names[objects],
                subject_scores=given["subject_scores"],
                object_scores=confidence,
                size=picture_size,
                size_known=torch.ones_like(picture_size[..., :1], dtype=torch.bool),
            )
        )
        groups = self.layout.vocabulary.group_slices
        scores = torch.cat([said.probabilities[name] for name in groups], -1)
        scores = scores * self.layout.affordances[objects]
        if self.shift is not None:
            scores = self.shift(scores)
        if self.evidence is not None:
            keypoints, person_of_pair = (given[name] for name in POSE)
            width, height = picture_size[:, :, None, None].unbind(-1)  # (B, T, 1, 1) each
            x, y, visible = keypoints.unbind(-1)
            pixels = torch.stack((x * width, y * height, visible), -1)
            scores = self.evidence(scores, pixels, person_of_pair, boxes[0], boxes[1])
        return *(scores[..., columns] for columns in groups.values()), said.representation


def _same_pairs(
    timestamps: Tensor,
    wanted: Tensor,
    mask: Tensor,
    subject_boxes: Tensor,
    object_boxes: Tensor,
    subjects: Tensor,
    objects: Tensor,
) -> tuple[Tensor, Tensor]:
    """Finds the pairs of each frame again in the frame that is nearest to a wanted time.

    Returns the boxes of subject and object there, (B, T, P, 2, 4), and whether the pair was found, (B, T, P) bool.

    timestamps: (B, T) seconds, like `wanted`.
    mask: (B, T, P) bool.
    subject_boxes: (B, T, P, 4), like `object_boxes`.
    subjects: (B, T, P) int64, classes, like `objects`.
    """
    miss, place = (timestamps[:, None] - wanted[:, :, None]).abs().min(-1)  # (B, T) each
    boxes = torch.stack((subject_boxes, object_boxes), -2)  # (B, T, P, 2, 4)

    def there(values: Tensor) -> Tensor:
        index = place.reshape(*place.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
        return values.gather(1, index)

    centres = (boxes[..., :2] + boxes[..., 2:]) / 2  # (B, T, P, 2, 2)
    moved = centres[:, :, :, None] - there(centres)[:, :, None]  # (B, T, P, P, 2, 2)
    distance = moved.square().sum(-1).sqrt().amax(-1)  # (B, T, P, P)
    alike = (subjects[..., None] == there(subjects)[:, :, None]) & (objects[..., None] == there(objects)[:, :, None])
    alike = alike & there(mask)[:, :, None] & (miss <= TIME_TOLERANCE)[..., None, None]
    distance, other = torch.where(alike, distance, _FAR).min(-1)  # (B, T, P) each
    height = subject_boxes[..., 3] - subject_boxes[..., 1]
    found = mask & (distance < REACH * height)
    chosen = there(boxes).gather(2, other[..., None, None].expand(-1, -1, -1, 2, 4))  # (B, T, P, 2, 4)
    return torch.where(found[..., None, None], chosen, boxes), found

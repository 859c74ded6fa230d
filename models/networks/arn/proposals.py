"""Training aid: queries that start from a dense detection head instead of from learned positions.

A one-to-many head (FCOS) learns from every object at many cells in every step, while Hungarian matching teaches one
query for each object. With it, a small DETR learns in an hour on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.graph.vocabulary import Vocabulary
from models.networks.boxes import to_centres
from models.networks.layers import sine_code

PRIOR = 0.02
"""Initial probability of a cell's class scores (focal loss)."""


@dataclass(frozen=True)
class DenseDetections:
    """Output of the dense head at each of the S cells of the fine map. Boxes are centre boxes.

    class_logits: (N, S, C).
    object_boxes: (N, S, 4).
    subject_boxes: (N, S, 4).
    cells: (S, 2), centres of the cells as fractions of the frame.
    cell_size: (2,), size of a cell as fractions of the frame.
    """

    class_logits: Tensor
    object_boxes: Tensor
    subject_boxes: Tensor
    cells: Tensor
    cell_size: Tensor


@dataclass(frozen=True)
class Proposals:
    """The best cells: Q objects and one subject for each frame. Boxes are centre boxes.

    object_boxes: (N, Q, 4).
    subject_boxes: (N, Q, 4).
    object_features: (N, Q, D).
    subject_features: (N, Q, D).
    subject_score: (N,), probability that there is a subject.
    subject_class: (N,) int64, the subject's index in the vocabulary's objects.
    """

    object_boxes: Tensor
    subject_boxes: Tensor
    object_features: Tensor
    subject_features: Tensor
    subject_score: Tensor
    subject_class: Tensor


class DenseHead(nn.Module):
    """Predicts classes, an object box and a subject box for every cell of the fine feature map."""

    centres: Tensor
    cell_size: Tensor
    subject_columns: Tensor
    thing_columns: Tensor

    def __init__(self, width: int, rows: int, columns: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.tower = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.classes = nn.Linear(width, len(vocabulary.objects))
        self.distances = nn.Linear(width, 8)
        nn.init.constant_(self.classes.bias, -torch.log(torch.tensor((1 - PRIOR) / PRIOR)).item())
        nn.init.constant_(self.distances.bias, 0.5)
        y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
        self.register_buffer("centres", torch.stack((x, y), -1).flatten(0, 1), persistent=False)
        self.register_buffer("cell_size", torch.tensor((1 / columns, 1 / rows)), persistent=False)
        self.register_buffer("subject_columns", torch.tensor(vocabulary.subject_indices), persistent=False)
        self.register_buffer("thing_columns", torch.tensor(vocabulary.thing_indices), persistent=False)

    def forward(self, fine: Tensor) -> DenseDetections:
        """Returns detections at the rows * columns cells of a map (N, D, rows, columns)."""
        cells = self.tower(fine).flatten(2).transpose(1, 2)  # (N, S, D)
        # Distances to the four sides, in cells.
        distances = self.distances(cells).float().clamp(max=5).exp().unflatten(-1, (2, 4))  # (N, S, 2, 4)
        centres = self.centres[:, None]
        low, high = centres - distances[..., :2] * self.cell_size, centres + distances[..., 2:] * self.cell_size
        boxes = to_centres(torch.cat((low, high), -1).clamp(0, 1))
        return DenseDetections(
            self.classes(cells).float(), boxes[:, :, 0], boxes[:, :, 1], self.centres, self.cell_size
        )

    def propose(self, fine: Tensor, detections: DenseDetections, count: int) -> Proposals:
        """Picks the `count` best object peaks and the best subject of each frame. Boxes carry no gradient."""
        logits = detections.class_logits.detach()
        subject, kind = logits[..., self.subject_columns].max(-1)  # (N, S)
        things = logits[..., self.thing_columns].amax(-1).sigmoid()  # (N, S)
        grid = things.unflatten(-1, (self.rows, self.columns))
        peaks = torch.where(grid >= F.max_pool2d(grid, 3, 1, 1), grid, grid * 0.01).flatten(1)
        best_things = peaks.topk(count, dim=1).indices  # (N, Q)
        # By its logit: sigmoids of sure cells are equal to the last bit, and runtimes would pick different ones.
        subject_logit, best_subject = subject.max(dim=1, keepdim=True)  # (N, 1)
        cells = fine.flatten(2).transpose(1, 2)  # (N, S, D)

        def pick(source: Tensor, indices: Tensor) -> Tensor:
            return source.gather(1, indices[..., None].expand(-1, -1, source.shape[-1]))

        return Proposals(
            object_boxes=pick(detections.object_boxes.detach(), best_things),
            subject_boxes=pick(detections.subject_boxes.detach(), best_subject).expand(-1, count, -1),
            object_features=pick(cells, best_things),
            subject_features=pick(cells, best_subject).expand(-1, count, -1),
            subject_score=subject_logit[:, 0].sigmoid(),
            subject_class=self.subject_columns[kind.gather(1, best_subject)[:, 0]],
        )


class BoxPosition(nn.Module):
    """Makes the position embedding of a query from its box."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(width, width)

    def forward(self, boxes: Tensor) -> Tensor:
        """Maps centre boxes (..., 4) to (..., D)."""
        return self.project(sine_code(boxes, self.width // 4).flatten(-2))  # type: ignore[no-any-return]


class RegionSampler(nn.Module):
    """Training aid: samples a grid of features inside a box from the fine map, bilinearly.

    A bilinear sample is the map times one row of weights for its height and one for its width. Two matrix products
    compute it several times as fast on CPUs as `grid_sample`, and every runtime has them.

    grid: points along each side.
    """

    steps: Tensor

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.project = nn.Linear(width * grid * grid, width)
        self.register_buffer("steps", (torch.arange(grid, dtype=torch.float32) + 0.5) / grid - 0.5, persistent=False)

    def forward(self, fine: Tensor, boxes: Tensor) -> Tensor:
        """Returns features (N, Q, D) of centre boxes (N, Q, 4) on a map (N, D, rows, columns)."""
        rows, columns = fine.shape[-2:]
        by_row = self._weights(boxes[..., 1], boxes[..., 3], rows)  # (N, Q, G, rows)
        by_column = self._weights(boxes[..., 0], boxes[..., 2], columns)  # (N, Q, G, columns)
        cells = fine.permute(0, 2, 3, 1)  # (N, rows, columns, D)
        sampled = by_row.flatten(1, 2) @ cells.flatten(2)  # (N, Q * G, columns * D)
        sampled = sampled.unflatten(-1, (columns, -1)).unflatten(1, (-1, len(self.steps)))  # (N, Q, G, columns, D)
        sampled = by_column[:, :, None] @ sampled  # (N, Q, G, G, D)
        return self.project(sampled.flatten(2))  # type: ignore[no-any-return]

    def _weights(self, centre: Tensor, size: Tensor, cells: int) -> Tensor:
        """Returns bilinear weights of the grid's points along one axis, (N, Q, G, cells).

        centre: (N, Q), centres of the boxes along the axis.
        size: (N, Q), their size along it.
        """
        points = (centre[..., None] + size[..., None] * self.steps) * cells - 0.5  # (N, Q, G)
        points = points.clamp(0, cells - 1)
        ticks = torch.arange(cells, device=points.device, dtype=points.dtype)
        return (1 - (points[..., None] - ticks).abs()).clamp(min=0)

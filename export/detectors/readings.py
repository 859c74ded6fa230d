"""Reading of what detectors give, whatever their contract: boxes as fractions of the frame and a score of each class.

The modules take the outputs of an ONNX detector and are exported behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

BoxFormat = Literal["xyxy", "yxyx", "xywh", "cxcywh"]
Activation = Literal["none", "sigmoid", "softmax"]
YOLOX_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class BoxConvention:
    """The way that a detector writes boxes.

    form: corners, or corner and size, or centre and size.
    width, height: the numbers that mean the right and the lower edge of the frame.
    """

    form: BoxFormat
    width: float
    height: float

    def as_fractions(self, boxes: Tensor) -> Tensor:
        """Returns corner boxes (..., 4) as fractions of the frame."""
        if self.form == "yxyx":
            boxes = boxes[..., [1, 0, 3, 2]]
        elif self.form != "xyxy":
            boxes = box_convert(boxes, self.form, "xyxy")
        return boxes / boxes.new_tensor([self.width, self.height, self.width, self.height])


class RowReading(nn.Module):
    """Reads one row a box: its score and the number of its class.

    classes: C, number of classes.
    first_label: number of the first class.
    """

    def __init__(self, convention: BoxConvention, classes: int, first_label: int) -> None:
        super().__init__()
        self.convention = convention
        self.classes = classes
        self.first_label = first_label

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes (N, Q, 4) and scores (N, Q, C), from boxes (N, Q, 4), scores (N, Q) and labels (N, Q) int64.

        A row with a number beyond the classes has scores of 0.
        """
        columns = labels - self.first_label
        real = (columns >= 0) & (columns < self.classes)
        is_class = columns[..., None] == torch.arange(self.classes, device=columns.device)
        return self.convention.as_fractions(boxes), is_class * (scores * real)[..., None]


class QueryReading(nn.Module):
    """Reads a box and the scores of all classes for each query, as the DETR family gives them.

    activation: makes scores of logits. A softmax has one more column, the last, for no object.
    columns: C, number of classes.
    """

    def __init__(self, convention: BoxConvention, activation: Activation, classes: int) -> None:
        super().__init__()
        self.convention = convention
        self.activation = activation
        self.classes = classes

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes (N, Q, 4) and scores (N, Q, C), from boxes (N, Q, 4) and logits (N, Q, C or C + 1)."""
        if self.activation == "softmax":
            scores = scores.softmax(-1)
        elif self.activation == "sigmoid":
            scores = scores.sigmoid()
        return self.convention.as_fractions(boxes), scores[..., : self.classes]


class GridReading(nn.Module):
    """Reads YOLOX's grid: centre, size, objectness and class scores of every cell of three levels.

    decoded: whether centres and sizes are pixels already. Otherwise a centre is an offset from its cell, in cells, and
        a size the logarithm of one in cells.
    activation: `sigmoid` where objectness and class scores are logits.
    frame_size: height and width of the frame in pixels.
    """

    cells: Tensor
    strides: Tensor

    def __init__(self, frame_size: tuple[int, int], *, decoded: bool, activation: Activation) -> None:
        super().__init__()
        self.convention = BoxConvention("cxcywh", frame_size[1], frame_size[0])
        self.decoded = decoded
        self.activation = activation
        cells, strides = [], []
        for stride in YOLOX_STRIDES:
            rows, columns = frame_size[0] // stride, frame_size[1] // stride
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            cells.append(torch.stack((x, y), -1).reshape(-1, 2).float())
            strides.append(torch.full((rows * columns, 1), float(stride)))
        self.register_buffer("cells", torch.cat(cells), persistent=False)  # (A, 2)
        self.register_buffer("strides", torch.cat(strides), persistent=False)  # (A, 1)

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes (N, A, 4) and scores (N, A, C) from a grid (N, A, 5 + C)."""
        centres, sizes, scores = grid[..., :2], grid[..., 2:4], grid[..., 4:]
        if not self.decoded:
            centres, sizes = (centres + self.cells) * self.strides, sizes.exp() * self.strides
        if self.activation == "sigmoid":
            scores = scores.sigmoid()
        boxes = self.convention.as_fractions(torch.cat((centres, sizes), -1))
        return boxes, scores[..., :1] * scores[..., 1:]


def cells_of(frame_size: tuple[int, int]) -> int:
    """Returns A, number of cells of YOLOX's grid on a frame of this height and width."""
    return sum((frame_size[0] // stride) * (frame_size[1] // stride) for stride in YOLOX_STRIDES)

"""EfficientDet-Lite0 (Tan et al., 2020, in TensorFlow Lite's variant) for frames of any size.

The variant has ReLU6, no squeeze-and-excitation and plain sums in its pyramid. Batch norm is folded into the
convolutions, as in the published files, which `models.networks.published` reads.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.detectors import coco
from models.networks.detectors.mobile_blocks import InvertedResidual, SameConv
from models.networks.tflite.graph import pad_same

LEVELS = 5
"""Levels of the pyramid: 3 to 7, level L having 2**L pixels a cell, rounded so that whole cells cover the frame."""
CHANNELS = 64
_ANCHOR_SCALE = 3.0
_OCTAVES = tuple(2 ** (third / 3) for third in range(3))
_RATIOS = (1.0, 2.0, 0.5)
"""Width / height of the anchors."""
ANCHORS = len(_OCTAVES) * len(_RATIOS)
_BLOCKS = (
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)
"""EfficientNet-Lite0's stages: expansion, channels, kernel, stride of the first block, blocks."""
_TAPPED = (2, 4, 6)
"""Stages whose last maps begin levels 3, 4 and 5."""
_CELLS = 3
_MULTIPLE = 64
_LARGEST_GROWTH = math.log(1000 / 16)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EfficientDetConfig:
    """Shape of an EfficientDet-Lite0. The weights suit any frame size; they were trained at 320x320.

    Frames are padded to multiples of 64 within the network: all levels but the last then halve evenly, as they did in
    training. A size of such multiples, like 512x384, wastes nothing.

    candidates: Q, number of boxes of a frame: those with the highest score of any class.
    """

    network: Literal["efficientdet"] = "efficientdet"
    frame_height: Annotated[int, Field(ge=64, le=4096)] = 384
    frame_width: Annotated[int, Field(ge=64, le=4096)] = 512
    candidates: Annotated[int, Field(ge=1)] = 300

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width of the padded frame."""
        return -(-self.frame_height // _MULTIPLE) * _MULTIPLE, -(-self.frame_width // _MULTIPLE) * _MULTIPLE

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the pyramid's levels."""
        height, width = self.padded_size
        return tuple((-(-height // 2**level), -(-width // 2**level)) for level in range(3, 3 + LEVELS))


class EfficientDet(nn.Module):
    """Turns frames into the boxes of COCO's classes.

    names: the classes, in the order of the columns of the scores.
    """

    anchors: Tensor

    def __init__(self, config: EfficientDetConfig) -> None:
        super().__init__()
        self.config = config
        self.names = coco.NAMES
        self.backbone = Backbone()
        self.pyramid = Pyramid()
        self.box_head = Head(4 * ANCHORS)
        self.class_head = Head(len(self.names) * ANCHORS)
        self.register_buffer("anchors", place_anchors(config), persistent=False)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.config.frame_height, self.config.frame_width

    def with_frame_size(self, height: int, width: int) -> EfficientDet:
        """Returns a detector with the same weights for frames of another size."""
        other = EfficientDet(replace(self.config, frame_height=height, frame_width=width))
        other.load_state_dict(self.state_dict())
        return other.train(self.training)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the Q candidates of each frame, before suppression, the best first.

        Boxes (N, Q, 4) float32 are corner boxes in fractions of the frame, scores (N, Q, C) float32 lie in 0..1.

        frames: (N, H, W, 3) uint8 RGB.
        """
        images = (frames.permute(0, 3, 1, 2).float() - 127) / 128
        (height, width), (padded_height, padded_width) = self.frame_size, self.config.padded_size
        deltas, logits = self.score_anchors(F.pad(images, (0, padded_width - width, 0, padded_height - height)))
        candidates = min(self.config.candidates, logits.shape[1])
        places = logits.amax(-1).topk(candidates, dim=1).indices[..., None]  # (N, Q, 1)
        scores = logits.gather(1, places.expand(-1, -1, logits.shape[2])).sigmoid()
        chosen = places.expand(-1, -1, 4)
        anchors = self.anchors[places[..., 0]]  # (N, Q, 4)
        return decode_boxes(deltas.gather(1, chosen), anchors), scores

    def score_anchors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns for all S anchors the deltas (N, S, 4) and the logits of the classes (N, S, C).

        images: (N, 3, H, W) float32 from -1 to 1, of the padded size.
        """
        levels = self.pyramid(self.backbone(images))
        return self._flatten(self.box_head(levels), 4), self._flatten(self.class_head(levels), len(self.names))

    @staticmethod
    def _flatten(maps: list[Tensor], columns: int) -> Tensor:
        """Turns maps (N, A * columns, h, w) of all levels into rows, cell by cell and anchor by anchor."""
        return torch.cat([each.permute(0, 2, 3, 1).reshape(each.shape[0], -1, columns) for each in maps], 1)


def place_anchors(config: EfficientDetConfig) -> Tensor:
    """Returns the anchors of all levels, cell by cell: (S, 4) centre boxes in fractions of the frame, unpadded.

    Cells divide the padded frame evenly, as in the original: 3 cells of level 7 are 320 / 3 pixels apart, not 128. An
    anchor's size is in cells, 3 to 4.8 of them before its ratio applies.
    """
    shapes = torch.tensor(
        [
            (_ANCHOR_SCALE * octave * math.sqrt(ratio), _ANCHOR_SCALE * octave / math.sqrt(ratio))
            for octave in _OCTAVES
            for ratio in _RATIOS
        ]
    )  # (A, 2) width and height in cells
    height, width = config.padded_size
    levels = []
    for rows, columns in config.level_sizes:
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        centres = torch.stack((x, y), -1).view(-1, 1, 2).expand(-1, ANCHORS, 2)
        boxes = torch.cat((centres, shapes.expand(rows * columns, -1, -1)), -1)  # in cells
        cell = torch.tensor((width / columns / config.frame_width, height / rows / config.frame_height))
        levels.append((boxes * cell.repeat(2)).view(-1, 4))
    return torch.cat(levels)


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Moves anchors (..., 4), centre boxes, by deltas (..., 4). Returns corner boxes within the frame (0..1).

    deltas: ty, tx in anchor heights and widths, th, tw in logarithms of the growth.
    """
    size = anchors[..., 2:]
    centres = anchors[..., :2] + deltas[..., (1, 0)] * size
    half = deltas[..., (3, 2)].clamp(max=_LARGEST_GROWTH).exp() * size / 2
    return torch.cat((centres - half, centres + half), -1).clamp(0, 1)


class Backbone(nn.Module):
    """EfficientNet-Lite0 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        inputs = 32
        for expansion, outputs, kernel, stride, blocks in _BLOCKS:
            stage = [InvertedResidual(inputs, outputs, expansion, kernel, stride)]
            stage += [InvertedResidual(outputs, outputs, expansion, kernel, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*stage))
            inputs = outputs

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns the maps of levels 3 to 5, with 40, 112 and 320 channels."""
        maps, values = [], F.relu6(self.stem(images))
        for number, stage in enumerate(self.stages):
            values = stage(values)
            if number in _TAPPED:
                maps.append(values)
        return maps


class SeparableConv(nn.Module):
    """Filters each channel by 3x3, then mixes the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.filter = SameConv(inputs, inputs, 3, groups=inputs)
        self.mix = SameConv(inputs, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, D, H, W)."""
        mixed: Tensor = self.mix(self.filter(images))
        return mixed


class Fusion(nn.Module):
    """A node of the pyramid: ReLU6 of the sum of its inputs, then a separable convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SeparableConv(CHANNELS, CHANNELS)

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps inputs (N, C, h, w) of one size to (N, C, h, w)."""
        fused: Tensor = self.conv(F.relu6(torch.stack(maps).sum(0) if len(maps) > 2 else maps[0] + maps[1]))
        return fused


class PyramidCell(nn.Module):
    """One pass of the BiFPN: top down, then bottom up.

    down: nodes of levels 6, 5, 4 and 3.
    up: nodes of levels 4, 5, 6 and 7.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(Fusion() for _ in range(LEVELS - 1))
        self.up = nn.ModuleList(Fusion() for _ in range(LEVELS - 1))

    def forward(self, levels: list[Tensor], again: list[Tensor]) -> list[Tensor]:
        """Maps levels 3 to 7, (N, C, h, w) each, to the same shapes. again: the levels as the way up takes them."""
        downwards = [levels[-1]]
        for node, level in zip(self.down, reversed(levels[:-1]), strict=True):
            coarser = F.interpolate(downwards[0], level.shape[2:], mode="nearest")
            downwards.insert(0, node(level, coarser))
        upwards = [downwards[0]]
        for number, node in enumerate(self.up, 1):
            finer = pool(upwards[-1])
            inputs = (again[number], downwards[number], finer) if number < LEVELS - 1 else (again[number], finer)
            upwards.append(node(*inputs))
        return upwards


class Pyramid(nn.Module):
    """EfficientDet-Lite0's BiFPN of three cells over levels 3 to 7.

    project: for the first cell's way down, levels 3, 4 and 5.
    project_again: for the first cell's way up, levels 4 and 5.
    extend: for level 6 before it is halved.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = (_BLOCKS[stage][1] for stage in _TAPPED)
        self.project = nn.ModuleList(SameConv(channels, CHANNELS) for channels in (fine, middle, coarse))
        self.project_again = nn.ModuleList(SameConv(channels, CHANNELS) for channels in (middle, coarse))
        self.extend = SameConv(coarse, CHANNELS)
        self.cells = nn.ModuleList(PyramidCell() for _ in range(_CELLS))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps the backbone's levels 3 to 5 to levels 3 to 7, (N, C, h, w) each."""
        sixth = pool(self.extend(maps[-1]))
        coarse = [sixth, pool(sixth)]
        levels = [project(values) for project, values in zip(self.project, maps, strict=True)] + coarse
        again = [project(values) for project, values in zip(self.project_again, maps[1:], strict=True)]
        again = [levels[0], *again, *coarse]
        for cell in self.cells:
            levels = again = cell(levels, again)
        return levels


class Head(nn.Module):
    """Predicts from each level. Levels share their convolutions but for the norms, which are folded into `mix`."""

    def __init__(self, outputs: int, depth: int = 3) -> None:
        super().__init__()
        self.filters = nn.ModuleList(SameConv(CHANNELS, CHANNELS, 3, groups=CHANNELS) for _ in range(depth))
        self.mix = nn.ModuleList(
            nn.ModuleList(SameConv(CHANNELS, CHANNELS) for _ in range(depth)) for _ in range(LEVELS)
        )
        self.predict = SeparableConv(CHANNELS, outputs)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Maps levels (N, C, h, w) to (N, D, h, w)."""
        maps = []
        for values, mixes in zip(levels, self.mix, strict=True):
            for depthwise, mix in zip(self.filters, mixes, strict=True):  # type: ignore[call-overload]
                values = F.relu6(mix(depthwise(values)))
            maps.append(self.predict(values))
        return maps


def pool(images: Tensor) -> Tensor:
    """Halves (N, C, H, W), rounding up: the largest of 3x3, padded as TensorFlow's SAME does."""
    return F.max_pool2d(pad_same(images, (3, 3), (2, 2), -torch.inf), 3, 2)

"""SSDLite with MobileNetV2 (Sandler et al., 2018, in TensorFlow's object detection API).

Batch norm is folded into the convolutions; `models.networks.published` reads the published weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.detectors import coco
from models.networks.detectors.mobile_blocks import InvertedResidual, SameConv

SIDE = 300
"""Height and width in pixels that frames are scaled to: the weights were trained at this size alone."""
_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 2, 3),
    (6, 64, 2, 4),
    (6, 96, 1, 3),
    (6, 160, 2, 3),
    (6, 320, 1, 1),
)
"""MobileNetV2's stages: expansion, channels, stride of the first block, blocks."""
_TAPPED = 13
"""The block whose widest maps are the first that boxes are predicted from."""
_LAST = 1280
_EXTRA = ((256, 512), (128, 256), (128, 256), (64, 128))
"""Channels within and behind each further level."""
_GRIDS = (19, 10, 5, 3, 2, 1)
"""Cells along each side of the levels' maps."""
_SCALES = tuple(0.2 + 0.15 * level for level in range(len(_GRIDS)))
_RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
"""Width / height of a level's anchors; the sixth is a square between this level's size and the next one's."""
_FIRST = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))
"""Scales and ratios of the first level's anchors."""
_DELTA_SCALES = (10.0, 10.0, 5.0, 5.0)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SsdLiteConfig:
    """Shape of an SSDLite. Frames of any size are scaled to 300x300.

    candidates: Q, number of boxes of a frame: those with the highest score of any class.
    """

    network: Literal["ssdlite"] = "ssdlite"
    frame_height: Annotated[int, Field(ge=64, le=4096)] = 300
    frame_width: Annotated[int, Field(ge=64, le=4096)] = 300
    candidates: Annotated[int, Field(ge=1)] = 200


class SsdLite(nn.Module):
    """Turns frames into the boxes of COCO's classes.

    names: the classes, in the order of the columns of the scores.
    """

    anchors: Tensor

    def __init__(self, config: SsdLiteConfig) -> None:
        super().__init__()
        self.config = config
        self.names = coco.NAMES
        self.stem = SameConv(3, 32, 3, 2)
        self.blocks = nn.ModuleList()
        inputs = 32
        for expansion, outputs, stride, blocks in _BLOCKS:
            for block in range(blocks):
                self.blocks.append(InvertedResidual(inputs, outputs, expansion, 3, stride if block == 0 else 1))
                inputs = outputs
        self.last = SameConv(inputs, _LAST)
        self.extra = nn.ModuleList()
        channels = [96 * 6, _LAST]
        for within, outputs in _EXTRA:
            self.extra.append(ExtraLevel(channels[-1], within, outputs))
            channels.append(outputs)
        counts = [len(_FIRST), *[len(_RATIOS) + 1] * (len(_GRIDS) - 1)]
        pairs = list(zip(channels, counts, strict=True))
        self.box_heads = nn.ModuleList(Predictor(width, 4 * count) for width, count in pairs)
        # The background comes first.
        self.class_heads = nn.ModuleList(Predictor(width, (1 + len(self.names)) * count) for width, count in pairs)
        self.register_buffer("anchors", place_anchors(), persistent=False)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.config.frame_height, self.config.frame_width

    def with_frame_size(self, height: int, width: int) -> SsdLite:
        """Returns a detector with the same weights for frames of another size."""
        other = SsdLite(replace(self.config, frame_height=height, frame_width=width))
        other.load_state_dict(self.state_dict())
        return other.train(self.training)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the Q candidates of each frame, before suppression, the best first.

        Boxes (N, Q, 4) float32 are corner boxes in fractions of the frame, scores (N, Q, C) float32 lie in 0..1.

        frames: (N, H, W, 3) uint8 RGB.
        """
        images = F.interpolate(frames.permute(0, 3, 1, 2).float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        deltas, logits = self.score_anchors(images / 127.5 - 1)
        logits = logits[..., 1:]
        places = logits.amax(-1).topk(min(self.config.candidates, logits.shape[1]), dim=1).indices[..., None]
        scores = logits.gather(1, places.expand(-1, -1, logits.shape[2])).sigmoid()  # (N, Q, C)
        chosen = deltas.gather(1, places.expand(-1, -1, 4))
        return decode_boxes(chosen, self.anchors[places[..., 0]]), scores

    def score_anchors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns for all S anchors the deltas (N, S, 4) and the logits of background and classes (N, S, 1 + C).

        images: (N, 3, 300, 300) float32 from -1 to 1.
        """
        levels, values = [], F.relu6(self.stem(images))
        for number, block in enumerate(self.blocks):
            if number == _TAPPED:
                assert isinstance(block, InvertedResidual)
                levels.append(block.widen(values))
                values = block.reduce(levels[-1])
            else:
                values = block(values)
        levels.append(F.relu6(self.last(values)))
        for extra in self.extra:
            levels.append(extra(levels[-1]))
        deltas = [_rows(head(level), 4) for head, level in zip(self.box_heads, levels, strict=True)]
        columns = 1 + len(self.names)
        logits = [_rows(head(level), columns) for head, level in zip(self.class_heads, levels, strict=True)]
        return torch.cat(deltas, 1), torch.cat(logits, 1)


class ExtraLevel(nn.Module):
    """A further level of half the size: mix, filter each channel, mix."""

    def __init__(self, inputs: int, within: int, outputs: int) -> None:
        super().__init__()
        self.narrow = SameConv(inputs, within)
        self.filter = SameConv(within, within, 3, 2, groups=within)
        self.mix = SameConv(within, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, D, H / 2, W / 2), rounded up."""
        return F.relu6(self.mix(F.relu6(self.filter(F.relu6(self.narrow(images))))))


class Predictor(nn.Module):
    """Filters each channel by 3x3, then predicts."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.filter = SameConv(inputs, inputs, 3, groups=inputs)
        self.predict = SameConv(inputs, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, D, H, W)."""
        predicted: Tensor = self.predict(F.relu6(self.filter(images)))
        return predicted


def place_anchors() -> Tensor:
    """Returns the anchors of all levels, cell by cell: (S, 4) centre boxes in fractions of the frame."""
    levels = []
    for level, cells in enumerate(_GRIDS):
        following = _SCALES[level + 1] if level + 1 < len(_SCALES) else 1.0
        between = (_SCALES[level] * following) ** 0.5
        sizes = _FIRST if level == 0 else (*((_SCALES[level], ratio) for ratio in _RATIOS), (between, 1.0))
        shapes = torch.tensor([(scale * ratio**0.5, scale / ratio**0.5) for scale, ratio in sizes])  # (A, 2)
        middles = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(middles, middles, indexing="ij")
        centres = torch.stack((x, y), -1).view(-1, 1, 2).expand(-1, len(sizes), 2)
        levels.append(torch.cat((centres, shapes.expand(cells**2, -1, -1)), -1).view(-1, 4))
    return torch.cat(levels)


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Moves anchors (..., 4), centre boxes, by deltas (..., 4). Returns corner boxes within the frame (0..1).

    deltas: ty, tx in tenths of the anchor's height and width, th, tw in fifths of the growth's logarithm.
    """
    ty, tx, th, tw = (deltas / deltas.new_tensor(_DELTA_SCALES)).unbind(-1)
    size = anchors[..., 2:]
    centres = anchors[..., :2] + torch.stack((tx, ty), -1) * size
    half = torch.stack((tw, th), -1).clamp(max=4.0).exp() * size / 2
    return torch.cat((centres - half, centres + half), -1).clamp(0, 1)


def _rows(maps: Tensor, columns: int) -> Tensor:
    """Turns maps (N, A * columns, h, w) into rows (N, h * w * A, columns), cell by cell and anchor by anchor."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, columns)

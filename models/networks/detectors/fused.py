"""Two object detectors as one: boxes that both find count more than those that one of them finds."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ConfigurationError
from models.networks.detectors.object_detector import ObjectDetector
from models.networks.detectors.suppression import suppress

Share = Annotated[float, Field(gt=0, lt=1)]
_APART = 2.0
"""Distance, in frames, that boxes of different classes are moved apart by, so that they never overlap."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FusingConfig:
    """Numbers that decide how the boxes of two detectors become one list.

    weight: of the second detector's scores; the first one's have the rest of 1.
    iou: IoU over which boxes of one class, one of each detector, are the same thing.
    detections: K, most boxes of each detector, with one class each. They are chosen before suppression, where many
        of them lie on one another.
    least_score: score below which a detector's boxes are dropped, before they are fused.
    object_iou: IoU over which a detector's box is dropped beside a better one of its class.
    """

    weight: Share = 1 / 3
    iou: Share = 0.55
    detections: Annotated[int, Field(ge=1)] = 300
    least_score: Share = 0.03
    object_iou: Share = 0.5


class Fused(nn.Module):
    """Runs two detectors of the same classes and fuses what they find (Weighted boxes fusion, Solovyev et al., 2021).

    Two boxes of one class, each the other's best match, become their mean, weighted by weight and score. A score is
    the weighted mean of both detectors' scores, so that a box that one detector alone finds keeps its share only.

    Raises ConfigurationError where their classes or frames differ.

    names: the classes, in the order of the columns of the scores.
    frame_size: height and width of the frames.
    """

    def __init__(self, first: ObjectDetector, second: ObjectDetector, config: FusingConfig) -> None:
        super().__init__()
        if first.names != second.names:
            raise ConfigurationError("the two detectors have different classes: they cannot be fused")
        if first.frame_size != second.frame_size:
            sizes = " and ".join(f"{width}x{height}" for height, width in (first.frame_size, second.frame_size))
            raise ConfigurationError(f"the two detectors take frames of {sizes}: import them for frames of one size")
        self.first = first
        self.second = second
        self.config = config
        self.names = first.names
        self.frame_size = first.frame_size

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes (N, 2 K, 4) and scores (N, 2 K, C), each box with a score of one class alone.

        frames: (N, H, W, 3) uint8 RGB.
        """
        weight = self.config.weight
        boxes, scores, classes = self._detections(*self.first(frames))
        others, other_scores, other_classes = self._detections(*self.second(frames))
        scores, other_scores = scores * (1 - weight), other_scores * weight
        overlaps = _overlaps(boxes, others) * (classes[..., None] == other_classes[:, None])
        overlaps = overlaps * ((scores[..., None] > 0) & (other_scores[:, None] > 0))  # (N, K, K)
        overlap, match = overlaps.max(2)  # (N, K)
        back = overlaps.argmax(1).gather(1, match)  # the match's own match
        same = (back == torch.arange(match.shape[1], device=match.device)) & (overlap > self.config.iou)
        matched_scores = other_scores.gather(1, match) * same
        matched_boxes = others.gather(1, match[..., None].expand(-1, -1, 4))
        total = scores + matched_scores
        shares = (matched_scores / total.clamp(min=1e-6))[..., None]
        taken = torch.zeros_like(other_scores).scatter_add(1, match, same.to(scores.dtype))
        rest = torch.where(taken > 0, 0.0, other_scores)
        fused = torch.cat((boxes * (1 - shares) + matched_boxes * shares, others), 1)  # (N, 2 K, 4)
        columns = F.one_hot(torch.cat((classes, other_classes), 1), len(self.names))
        return fused, columns * torch.cat((total, rest), 1)[..., None]

    def _detections(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the best boxes (N, K, 4) after suppression, their scores (N, K), 0 where dropped, and classes."""
        count = len(self.names)
        best, places = scores.flatten(1).topk(min(self.config.detections, scores.shape[1]), dim=1)
        chosen = boxes.gather(1, (places // count)[..., None].expand(-1, -1, 4))
        classes = places % count
        apart = chosen + _APART * classes[..., None].to(chosen.dtype)
        kept = suppress(apart, best, self.config.object_iou, self.config.least_score)
        return chosen, best * kept, classes


def _overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Returns IoUs (N, K, L) of corner boxes (N, K, 4) with others (N, L, 4)."""
    first, second = boxes[:, :, None], others[:, None]
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    shared = sides.clamp(min=0).prod(-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (first, second)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-9)

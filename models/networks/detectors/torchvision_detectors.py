"""torchvision's COCO detectors on dense tensors: its modules and weights, without its loops over images."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d, clip_boxes_to_image, roi_align

from models.networks.backbone import Normalise
from models.networks.detectors import coco
from models.networks.detectors.suppression import suppress

Architecture = Literal[
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
]
_FROZEN_EPS: dict[str, float] = {
    "fasterrcnn_resnet50_fpn": 0.0,
    "fasterrcnn_mobilenet_v3_large_fpn": 1e-5,
    "fasterrcnn_mobilenet_v3_large_320_fpn": 1e-5,
    "retinanet_resnet50_fpn": 0.0,
}
"""Architectures whose published weights have frozen batch norm, with its epsilon."""
_LABELS = 91
_MULTIPLE = 32
"""torchvision pads images with zeros so that their sides are multiples of this."""
_SMALLEST_PROPOSAL, _SMALLEST_OBJECT = 1e-3, 1e-2
"""Least width and height of boxes in pixels."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TorchvisionConfig:
    """Shape of one of torchvision's detectors.

    architecture: its name in torchvision.
    detections: Q, most boxes of a frame.
    """

    network: Literal["torchvision"] = "torchvision"
    architecture: Architecture = "fasterrcnn_resnet50_fpn_v2"
    frame_height: Annotated[int, Field(ge=64, le=4096)] = 480
    frame_width: Annotated[int, Field(ge=64, le=4096)] = 640
    detections: Annotated[int, Field(ge=1)] = 100


class TorchvisionDetector(nn.Module):
    """Turns frames into the boxes of COCO's classes, as torchvision's own detector does for one image.

    names: the classes, in the order of the columns of the scores.
    model: torchvision's detector; its state dict is the published one.
    """

    anchors: Tensor
    columns: Tensor

    def __init__(self, config: TorchvisionConfig) -> None:
        super().__init__()
        self.config = config
        self.names = coco.NAMES
        self.model = make_model(config.architecture)
        self.normalise = Normalise()
        self._padding = (-config.frame_width % _MULTIPLE, -config.frame_height % _MULTIPLE)
        self.register_buffer("columns", torch.tensor(coco.IDS), persistent=False)
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            features = self._features(torch.zeros(1, *self.frame_size, 3, dtype=torch.uint8))
            if isinstance(self.model, FasterRCNN):
                # The pooling of regions learns the scales of the maps when it runs for the first time.
                pool = self.model.roi_heads.box_roi_pool
                pool(dict(zip(pool.featmap_names, features, strict=False)), [torch.ones(1, 4)], [self.frame_size])
                generator = self.model.rpn.anchor_generator
            else:
                generator = self.model.anchor_generator
        self._level_sizes = [generator.num_anchors_per_location()[0] * each[0, 0].numel() for each in features]
        self.register_buffer("anchors", self._place_anchors(generator, features), persistent=False)
        self.model.train(training)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.config.frame_height, self.config.frame_width

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the Q best detections of each frame after suppression, the best first.

        Boxes (N, Q, 4) float32 are corner boxes in fractions of the frame. Scores (N, Q, C) float32 in 0..1 are 0 but
        for the detection's class, and 0 in all columns where there are fewer detections.

        frames: (N, H, W, 3) uint8 RGB.
        """
        features = self._features(frames)
        if isinstance(self.model, FasterRCNN):
            boxes, scores = self._regions(self.model, features)
        else:
            boxes, scores = self._cells(self.model, features)
        return self._best(boxes, scores)

    def _features(self, frames: Tensor) -> list[Tensor]:
        right, bottom = self._padding
        features = self.model.backbone(F.pad(self.normalise(frames), (0, right, 0, bottom)))
        return list(features.values())

    def _place_anchors(self, generator: AnchorGenerator, features: list[Tensor]) -> Tensor:
        """Returns the anchors of all levels, (A, 4) corner boxes in pixels."""
        height, width = self.frame_size
        right, bottom = self._padding
        images = ImageList(torch.empty(1, 3, height + bottom, width + right), [self.frame_size])
        anchors: Tensor = generator(images, features)[0]
        return anchors

    def _regions(self, model: FasterRCNN, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns boxes (N, R, L, 4) in pixels and scores (N, R, L) of Faster R-CNN's regions for its L labels."""
        proposals, real = self._propose(model, features)
        count, regions = proposals.shape[:2]
        heads = model.roi_heads
        pooled = self._pool(model, features, proposals)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        boxes = heads.box_coder.decode(deltas, [proposals.flatten(0, 1)])  # (N * R, L, 4)
        boxes = clip_boxes_to_image(boxes, self.frame_size).view(count, regions, _LABELS, 4)
        scores = logits.softmax(-1).view(count, regions, _LABELS) * real[..., None]
        scores = scores * _as_large(boxes, _SMALLEST_OBJECT)
        return boxes, torch.where(scores > heads.score_thresh, scores, 0.0)

    def _propose(self, model: FasterRCNN, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the best regions of each frame, (N, R, 4) in pixels, and (N, R) bool, true where there is one."""
        rpn = model.rpn
        boxes, ranks = [], []
        objectness, deltas = rpn.head(features)
        anchors = self.anchors.split(self._level_sizes)
        for logits, moves, places in zip(objectness, deltas, anchors, strict=True):
            logits = logits.permute(0, 2, 3, 1).flatten(1)  # (N, A)
            moves = moves.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)  # (N, A, 4)
            best, index = logits.topk(min(rpn.pre_nms_top_n(), logits.shape[1]), dim=1)
            moved = rpn.box_coder.decode_single(_pick(moves, index).flatten(0, 1), places[index].flatten(0, 1))
            found = clip_boxes_to_image(moved.view(*index.shape, 4), self.frame_size)
            score = best.sigmoid()
            score = torch.where(_as_large(found, _SMALLEST_PROPOSAL) & (score >= rpn.score_thresh), score, 0.0)
            kept = suppress(found, score, rpn.nms_thresh, 0.0)
            boxes.append(found)
            ranks.append(score * kept)
        joined, scores = torch.cat(boxes, 1), torch.cat(ranks, 1)
        best, index = scores.topk(min(rpn.post_nms_top_n(), scores.shape[1]), dim=1)
        return _pick(joined, index), best > 0

    @staticmethod
    def _pool(model: FasterRCNN, features: list[Tensor], proposals: Tensor) -> Tensor:
        """Pools each region (N, R, 4) from the level of its size: (N * R, D, S, S)."""
        pool = model.roi_heads.box_roi_pool
        flat = proposals.flatten(0, 1)
        frame = torch.arange(proposals.shape[0], device=flat.device, dtype=flat.dtype)
        rows = torch.cat((frame.repeat_interleave(proposals.shape[1])[:, None], flat), 1)
        level = pool.map_levels([flat])
        pooled = flat.new_zeros(flat.shape[0], features[0].shape[1], *pool.output_size)
        for number, (values, scale) in enumerate(zip(features, pool.scales, strict=False)):
            chosen = torch.nonzero(level == number).squeeze(1)
            regions = roi_align(values, rows[chosen], pool.output_size, scale, pool.sampling_ratio)
            pooled = pooled.index_put((chosen,), regions)
        return pooled

    def _cells(self, model: RetinaNet, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns boxes (N, S, 1, 4) in pixels and scores (N, S, L) of RetinaNet's best anchors of each level.

        An anchor takes part once for each of its classes that is among the best.
        """
        outputs = model.head(features)
        boxes, scores = [], []
        for logits, moves, places in zip(
            outputs["cls_logits"].split(self._level_sizes, 1),
            outputs["bbox_regression"].split(self._level_sizes, 1),
            self.anchors.split(self._level_sizes),
            strict=True,
        ):
            best, index = logits.flatten(1).topk(min(model.topk_candidates, logits[0].numel()), dim=1)
            anchor, label = index // _LABELS, index % _LABELS
            moved = model.box_coder.decode_single(_pick(moves, anchor).flatten(0, 1), places[anchor].flatten(0, 1))
            boxes.append(clip_boxes_to_image(moved.view(*index.shape, 4), self.frame_size))
            score = best.sigmoid()
            score = torch.where(score > model.score_thresh, score, 0.0)
            scores.append(score[..., None] * F.one_hot(label, _LABELS))
        return torch.cat(boxes, 1)[:, :, None], torch.cat(scores, 1)

    def _best(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Suppresses within classes and takes the Q best: boxes (N, Q, 4) in fractions and scores (N, Q, C).

        boxes: (N, R, L, 4) or (N, R, 1, 4) in pixels. scores: (N, R, L), 0 for what is no detection.
        """
        height, width = self.frame_size
        classes = len(self.names)
        by_class = scores[..., self.columns].transpose(1, 2)  # (N, C, R)
        boxes = boxes[:, :, self.columns] if boxes.shape[2] > 1 else boxes.expand(-1, -1, classes, -1)
        boxes = boxes.transpose(1, 2)  # (N, C, R, 4)
        iou = self.model.roi_heads.nms_thresh if isinstance(self.model, FasterRCNN) else self.model.nms_thresh
        kept = suppress(boxes.flatten(0, 1), by_class.flatten(0, 1), iou, 0.0).view(by_class.shape)
        ranks = (by_class * kept).flatten(1)  # (N, C * R)
        best, index = ranks.topk(min(self.config.detections, ranks.shape[1]), dim=1)
        found = _pick(boxes.flatten(1, 2), index) / boxes.new_tensor((width, height, width, height))
        return found, best[..., None] * F.one_hot(index // by_class.shape[2], classes)


def make_model(architecture: Architecture) -> FasterRCNN | RetinaNet:
    """Builds torchvision's detector with fresh weights, its norms as those of the published weights."""
    model: FasterRCNN | RetinaNet = get_model(architecture, weights=None, weights_backbone=None)
    if architecture in _FROZEN_EPS:
        _freeze_norms(model.backbone, _FROZEN_EPS[architecture])
    return model


def _freeze_norms(module: nn.Module, eps: float) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps))
        else:
            _freeze_norms(child, eps)


def _as_large(boxes: Tensor, side: float) -> Tensor:
    """Returns (...,) bool: false for corner boxes (..., 4) of which clipping left next to nothing."""
    return (boxes[..., 2:] - boxes[..., :2] >= side).all(-1)


def _pick(values: Tensor, indices: Tensor) -> Tensor:
    """Picks rows (N, K, D) of values (N, R, D) by indices (N, K) int64."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[-1]))

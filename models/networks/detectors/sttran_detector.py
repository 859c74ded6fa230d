"""STTran's Faster R-CNN for Action Genome, as its published weights need it (the older ResNet-101-C4 of Caffe).

It differs from `Detector` in its strides, pooling, means and anchors, in boxes whose sides count their last pixel, and
in how it makes objects of regions: 36 classes without the background, some of them cleaned, suppressed once more.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d, roi_align

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.detectors.suppression import suppress
from models.networks.relations.pairs import Pairs
from models.networks.relations.representation import union_boxes
from models.networks.relations.sttran_classifier import Labelled, SttranObjectClassifier, label

_STRIDE = 16
_ANCHORS = 12
_MEANS = (122.7717, 115.9465, 102.9801)
"""Of red, green and blue; the published code has them in the order of its channels, blue first."""
_DELTA_SCALE = (0.1, 0.1, 0.2, 0.2)
_CLEANED = (4, 7, 16)
"""Columns of the objects book, chair and food: a region of one of them is also taken for its next best class."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SttranDetectorConfig:
    """Shape of STTran's detector. The defaults are the published one's.

    blocks: residual blocks of the four layers of the ResNet.
    group_width: width of a block's inner convolutions in the first layer.
    proposals: R, number of regions of a frame that are classified.
    proposals_before_suppression: number of regions of a frame that suppression chooses from.
    detections: most regions and classes of a frame that are taken for objects. The published code has no limit.
    pairs: P, number of pairs of a frame, the surest objects. The published code has no limit.
    clip_length: most frames that run at once.
    """

    network: Literal["sttran_detector"] = "sttran_detector"
    frame_height: Annotated[int, Field(ge=64, le=4096)] = 600
    frame_width: Annotated[int, Field(ge=64, le=4096)] = 1000
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 4, 23, 3)
    group_width: PositiveInt = 64
    proposals: PositiveInt = 100
    proposals_before_suppression: PositiveInt = 6000
    proposal_iou: float = 0.7
    region_iou: float = 0.4
    object_iou: float = 0.6
    least_score: float = 0.1
    detections: PositiveInt = 64
    pairs: PositiveInt = 32
    clip_length: PositiveInt = 16

    feature_width = 2048
    map_channels = 1024
    region_size = 7

    def __post_init__(self) -> None:
        if self.proposals > self.proposals_before_suppression:
            raise ConfigurationError(
                f"proposals is {self.proposals}: give at most proposals_before_suppression, "
                f"{self.proposals_before_suppression}"
            )


@plain_dataclass(frozen=True)
class Regions:
    """The R best proposals of N frames.

    boxes: (N, R, 4) corner boxes in pixels of the frame.
    mask: (N, R) bool, true where there is a proposal.
    features: (N, R, F).
    logits: (N, R, 1 + C), the background first.
    deltas: (N, R, 1 + C, 4), box refinements for each class.
    """

    boxes: Tensor
    mask: Tensor
    features: Tensor
    logits: Tensor
    deltas: Tensor


@plain_dataclass(frozen=True)
class Objects:
    """K objects of N frames, of any class, in no order.

    boxes: (N, K, 4) corner boxes in pixels of the picture.
    mask: (N, K) bool, true where there is an object.
    features: (N, K, F).
    probabilities: (N, K, C).
    """

    boxes: Tensor
    mask: Tensor
    features: Tensor
    probabilities: Tensor


class SttranDetector(nn.Module):
    """Turns frames into pairs of the surest person of a frame and its other objects, P in all."""

    anchors: Tensor
    means: Tensor

    def __init__(self, config: SttranDetectorConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        """Raises ConfigurationError where the vocabulary is not Action Genome's, whose columns the method names."""
        super().__init__()
        if not vocabulary.same_columns(ACTION_GENOME):
            raise ConfigurationError(
                "STTran's detector knows Action Genome's vocabulary only: leave the vocabulary out"
            )
        self.config = config
        self.vocabulary = vocabulary
        self.classes = 1 + len(vocabulary.objects)
        self.base, self.top = _make_body(config)
        self.rpn_conv = nn.Conv2d(config.map_channels, 512, 3, padding=1)
        self.rpn_scores = nn.Conv2d(512, 2 * _ANCHORS, 1)
        self.rpn_deltas = nn.Conv2d(512, 4 * _ANCHORS, 1)
        self.class_scores = nn.Linear(config.feature_width, self.classes)
        self.box_deltas = nn.Linear(config.feature_width, 4 * self.classes)
        self.register_buffer("means", torch.tensor(_MEANS).view(3, 1, 1), persistent=False)
        rows, columns = map_size(config.frame_height), map_size(config.frame_width)
        self.register_buffer("anchors", place_anchors(rows, columns), persistent=False)  # (S, 4)
        self.requires_grad_(False)

    def pairs(self, frames: Tensor, timestamps: Tensor, picture_size: Tensor) -> Pairs:
        """Returns the detected pairs (SGDet). A frame in which nothing is found has none.

        frames: (B, T, H, W, 3) uint8 RGB.
        timestamps: (B, T) seconds.
        picture_size: (B, T, 2) float32, width and height of the displayed video in pixels. Sides of boxes are counted
            in them.
        """
        maps = self.feature_map(frames.flatten(0, 1))
        regions = self.classify(maps, *self.propose(maps))
        objects = self.find_objects(regions, picture_size.flatten(0, 1))
        return self.pair_up(maps, objects, timestamps, picture_size)

    def feature_map(self, frames: Tensor) -> Tensor:
        """Maps frames (N, H, W, 3) uint8 RGB to (N, C, h, w)."""
        images = (frames.permute(0, 3, 1, 2).float() - self.means).flip(1)
        mapped: Tensor = self.base(images)
        return mapped

    def propose(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Proposes regions of maps (N, C, h, w): boxes (N, R, 4) in pixels, and a mask (N, R) of those that are any."""
        hidden = self.rpn_conv(maps).relu()
        background, foreground = self.rpn_scores(hidden).permute(0, 2, 3, 1).chunk(2, dim=-1)  # (N, h, w, A) each
        scores = (foreground - background).flatten(1)  # (N, S), by place and anchor
        deltas = self.rpn_deltas(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
        count = min(self.config.proposals_before_suppression, scores.shape[1])
        best = scores.topk(count, dim=1).indices
        boxes = self._clip(_move(self.anchors[best], _pick(deltas, best)))
        # Boxes are sorted by score already, so their places rank them, without the ties of sure scores.
        places = torch.arange(count, 0, -1, device=scores.device, dtype=torch.float32)
        keep = suppress(_to_last_pixel(boxes), places.expand(boxes.shape[0], -1), self.config.proposal_iou, 0.0)
        ranks, order = torch.where(keep, places, -places).topk(min(self.config.proposals, count), dim=1)
        return _pick(boxes, order), ranks > 0

    def classify(self, maps: Tensor, boxes: Tensor, mask: Tensor) -> Regions:
        """Computes features, class scores and box refinements of corner boxes (N, R, 4) in pixels of the frame."""
        features = self.top(self.pool(maps, boxes)).mean((2, 3))  # (N * R, F)
        shape = boxes.shape[:2]
        deltas = self.box_deltas(features).unflatten(0, shape).unflatten(-1, (self.classes, 4))
        return Regions(
            boxes, mask, features.unflatten(0, shape), self.class_scores(features).unflatten(0, shape), deltas
        )

    def find_objects(self, regions: Regions, picture_size: Tensor) -> Objects:
        """Makes objects of regions, as the published code does for SGDet: several of a region where it is unsure.

        picture_size: (N, 2), width and height of the displayed video in pixels.
        """
        found = self._detect(regions, self._scale(picture_size))
        variants = [found.probabilities]
        masks = [found.mask]
        last = found.probabilities
        for column in _CLEANED:
            is_of_it = found.mask & (last.argmax(-1) == column)
            cleaned = torch.cat((last[..., :column], torch.zeros_like(last[..., :1]), last[..., column + 1 :]), -1)
            variants.append(cleaned)
            masks.append(is_of_it)
            last = torch.where(is_of_it[..., None], cleaned, last)
        count = len(variants)
        probabilities, mask = torch.cat(variants, 1), torch.cat(masks, 1)
        boxes, features = found.boxes.repeat(1, count, 1), found.features.repeat(1, count, 1)
        kept = self._suppress_within(boxes, probabilities.amax(-1) * mask, probabilities.argmax(-1))
        return Objects(boxes, kept, features, probabilities)

    def given_pairs(
        self,
        frames: Tensor,
        timestamps: Tensor,
        boxes: Tensor,
        mask: Tensor,
        picture_size: Tensor,
        classifier: SttranObjectClassifier | None = None,
    ) -> Pairs:
        """Returns the pairs of N given boxes (PredCls, SGCls) in N slots. The subject's own slot stays empty.

        Frames, timestamps and picture size are as for `pairs`.

        boxes: (B, T, N, 4) corner boxes as fractions of the frame.
        mask: (B, T, N) bool, true where there is a box.
        classifier: labels the boxes (SGCls); None takes the first for the subject (PredCls).
        """
        clip = mask.shape[:2]
        maps = self.feature_map(frames.flatten(0, 1))
        given, real = boxes.flatten(0, 1), mask.flatten(0, 1)
        size = boxes.new_tensor((self.config.frame_width, self.config.frame_height) * 2)
        pixels = given * size
        regions = self.classify(maps, pixels, real)
        known = regions.logits[..., 1:].softmax(-1)
        if classifier is None:
            first = torch.zeros_like(real[:, :1], dtype=torch.int64)
            slots = torch.arange(real.shape[1], device=real.device)
            labelled = Labelled(first, known, real & (slots != first) & real[:, :1])
        else:
            picture = torch.cat((picture_size, picture_size), -1).flatten(0, 1)[:, None]  # (N, 1, 4)
            labelled = label(classifier(regions.features, known, given * picture), real)
        subject, others = labelled.subject, labelled.things
        subject_boxes = _pick(pixels, subject).expand_as(pixels)
        unions = self.pool(maps, union_boxes(subject_boxes, pixels) * others[..., None]).unflatten(0, real.shape)
        people = _pick(labelled.probabilities, subject)[..., 0]  # (N, 1)

        def split(values: Tensor) -> Tensor:
            by_clip: Tensor = values.unflatten(0, clip)
            return by_clip

        return Pairs(
            mask=split(others),
            subject_boxes=split(subject_boxes / size),
            subject_scores=split(people.expand_as(real)),
            object_boxes=boxes,
            object_scores=split(labelled.probabilities * others[..., None]),
            subject_features=split(_pick(regions.features, subject).expand_as(regions.features)),
            object_features=split(regions.features),
            union_features=split(unions),
            timestamps=timestamps,
        )

    def pair_up(self, maps: Tensor, objects: Objects, timestamps: Tensor, picture_size: Tensor) -> Pairs:
        """Pairs the surest person of each frame with its P surest other objects, none of which is a person."""
        is_person = torch.where(objects.mask, objects.probabilities[..., 0], -1.0)
        subject_scores, subject = is_person.max(1, keepdim=True)  # (N, 1)
        things = torch.cat((torch.zeros_like(is_person)[..., None], objects.probabilities[..., 1:]), -1)  # (N, K, C)
        slots = torch.arange(things.shape[1], device=things.device)
        ranks = torch.where(objects.mask & (slots != subject), things.amax(-1), -1.0)
        best, order = ranks.topk(min(self.config.pairs, ranks.shape[1]), dim=1)
        mask = best > -1
        count = mask.shape[1]
        scale = self._scale(picture_size.flatten(0, 1))
        subject_boxes = _pick(objects.boxes, subject).expand(-1, count, -1)
        object_boxes = _pick(objects.boxes, order)
        unions = self.pool(maps, union_boxes(subject_boxes, object_boxes) * scale * mask[..., None])
        size = torch.cat((picture_size, picture_size), -1).flatten(0, 1)[:, None]  # (N, 1, 4)
        clip = timestamps.shape

        def slot(values: Tensor) -> Tensor:
            cleared = values * mask.reshape(*mask.shape, *[1] * (values.dim() - 2))
            split: Tensor = cleared.unflatten(0, clip)
            return split

        return Pairs(
            mask=mask.unflatten(0, clip),
            subject_boxes=slot(subject_boxes / size),
            subject_scores=slot(subject_scores.expand(-1, count)),
            object_boxes=slot(object_boxes / size),
            object_scores=slot(_pick(things, order)),
            subject_features=slot(_pick(objects.features, subject).expand(-1, count, -1)),
            object_features=slot(_pick(objects.features, order)),
            union_features=slot(unions.unflatten(0, mask.shape)),
            timestamps=timestamps,
        )

    def pool(self, maps: Tensor, boxes: Tensor) -> Tensor:
        """Pools corner boxes (N, R, 4) in pixels of the frame by RoIAlign, with as many points as a cell has pixels."""
        frame = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
        rows = torch.cat((frame[:, None, None].expand(-1, boxes.shape[1], 1), boxes), -1).flatten(0, 1)
        pooled: Tensor = roi_align(maps, rows, self.config.region_size, 1 / _STRIDE, 0)
        return pooled

    def _detect(self, regions: Regions, scale: Tensor) -> Objects:
        """Suppresses the regions within each class and takes the best; of persons only one.

        `scale` (N, 1, 4) is the pixels of the frame in a pixel of the picture.
        """
        scores = regions.logits.softmax(-1)[..., 1:].transpose(1, 2)  # (N, C, R)
        deltas = regions.deltas[:, :, 1:] * regions.deltas.new_tensor(_DELTA_SCALE)
        boxes = self._clip(_move(regions.boxes[:, :, None], deltas)) / scale[:, :, None]  # (N, R, C, 4)
        boxes = boxes.transpose(1, 2)  # (N, C, R, 4)
        ranks = torch.where(regions.mask[:, None], scores, 0.0)
        kept = suppress(
            _to_last_pixel(boxes).flatten(0, 1), ranks.flatten(0, 1), self.config.region_iou, self.config.least_score
        ).unflatten(0, ranks.shape[:2])
        ranks = ranks * kept
        people = ranks[:, :1] * (ranks[:, :1] == ranks[:, :1].amax(-1, keepdim=True))
        ranks = torch.cat((people, ranks[:, 1:]), 1).flatten(1)  # (N, C * R)
        best, index = ranks.topk(min(self.config.detections, ranks.shape[1]), dim=1)
        # By class again: a region's boxes of several classes have equal scores later, where the first one wins.
        index, order = index.sort(dim=1)
        best = best.gather(1, order)
        region = index % scores.shape[2]
        return Objects(
            boxes=_pick(boxes.flatten(1, 2), index),
            mask=best > 0,
            features=_pick(regions.features, region),
            probabilities=_pick(regions.logits[..., 1:].softmax(-1), region),
        )

    def _suppress_within(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
        """Suppresses boxes (N, K, 4) in pixels within their classes (N, K); returns (N, K) bool."""
        columns = torch.arange(self.classes - 1, device=classes.device)[:, None]
        ranks = torch.where(classes[:, None] == columns, scores[:, None], 0.0)  # (N, C, K)
        spread = _to_last_pixel(boxes)[:, None].expand(-1, ranks.shape[1], -1, -1)
        kept = suppress(spread.flatten(0, 1), ranks.flatten(0, 1), self.config.object_iou, 0.0)
        stays: Tensor = kept.unflatten(0, ranks.shape[:2]).any(1)
        return stays

    def _clip(self, boxes: Tensor) -> Tensor:
        """Clips corner boxes (..., 4) to the frame's first and last pixels."""
        width, height = self.config.frame_width - 1, self.config.frame_height - 1
        return torch.minimum(boxes.clamp(min=0), boxes.new_tensor((width, height, width, height)))

    def _scale(self, picture_size: Tensor) -> Tensor:
        """Returns the pixels of the frame in a pixel of the picture, (N, 1, 4)."""
        size = picture_size.new_tensor((self.config.frame_width, self.config.frame_height))
        scale = size / picture_size
        return torch.cat((scale, scale), -1)[:, None]


def map_size(side: int) -> int:
    """Returns the cells that a side of the frame has on the map. Pooling rounds up, the convolutions too."""
    half = (side + 1) // 2
    pooled = -(-(half - 3) // 2) + 1
    for _ in range(2):
        pooled = (pooled + 1) // 2
    return pooled


def place_anchors(rows: int, columns: int) -> Tensor:
    """Returns the anchors of all cells, row by row, (S, 4) corner boxes in pixels; 3 shapes of 4 sizes in each cell."""
    centre = (_STRIDE - 1) / 2
    anchors = []
    for ratio in (0.5, 1.0, 2.0):
        width = round((_STRIDE**2 / ratio) ** 0.5)
        height = round(width * ratio)
        for size in (4, 8, 16, 32):
            half_width, half_height = (width * size - 1) / 2, (height * size - 1) / 2
            anchors.append((centre - half_width, centre - half_height, centre + half_width, centre + half_height))
    y, x = torch.meshgrid(torch.arange(rows) * _STRIDE, torch.arange(columns) * _STRIDE, indexing="ij")
    shifts = torch.stack((x, y, x, y), -1).flatten(0, 1)
    return (shifts[:, None] + torch.tensor(anchors)).flatten(0, 1)


def _make_body(config: SttranDetectorConfig) -> tuple[nn.Sequential, nn.Module]:
    """Builds the ResNet up to layer3, and layer4, with the strides and the pooling of Caffe's."""
    body = ResNet(Bottleneck, list(config.blocks), width_per_group=config.group_width, norm_layer=FrozenBatchNorm2d)
    for layer in (body.layer2, body.layer3, body.layer4):
        first = layer[0]
        assert isinstance(first, Bottleneck)
        first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
    body.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    base = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool, body.layer1, body.layer2, body.layer3)
    return base, body.layer4


def _to_last_pixel(boxes: Tensor) -> Tensor:
    """Returns corner boxes (..., 4) whose far edges lie behind the last pixel, so that its side counts."""
    return boxes + boxes.new_tensor((0.0, 0.0, 1.0, 1.0))


def _move(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Moves corner boxes (..., 4), whose last pixels count, by deltas (..., 4). Returns edges."""
    size = boxes[..., 2:] - boxes[..., :2] + 1
    centre = boxes[..., :2] + size / 2 + deltas[..., :2] * size
    half = deltas[..., 2:].exp() * size / 2
    return torch.cat((centre - half, centre + half), -1)


def _pick(values: Tensor, indices: Tensor) -> Tensor:
    """Picks rows (N, K, D) of values (N, R, D) by indices (N, K) int64."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[-1]))

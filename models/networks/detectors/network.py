"""Faster R-CNN (Ren et al., 2015) of torchvision's parts, with methods that use them on dense tensors."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image, roi_align

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.backbone import Normalise
from models.networks.boxes import paired_generalised_iou
from models.networks.detectors.backbones import CompactBody, ResNet101C4, make_region_head
from models.networks.detectors.candidates import Candidates, Regions
from models.networks.detectors.config import DetectorConfig
from models.networks.detectors.pairing import pair_up
from models.networks.detectors.suppression import suppress
from models.networks.relations.pairs import Pairs
from models.networks.relations.representation import union_boxes

FOUND_IOU = 0.5
"""IoU from which a detection counts as an annotated box (STTran)."""
_DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
_LARGEST_GROWTH = math.log(1000 / 16)
_SMALLEST_PROPOSAL, _SMALLEST_OBJECT = 1e-3, 1e-2
"""Least width and height in pixels. torchvision's detector drops smaller boxes."""


class Detector(nn.Module):
    """Turns frames into pairs: the best subjects of each frame with the objects near them, P pairs in all.

    A subject, such as a person, is never an object of a pair. Raises ConfigurationError where all objects are subjects.

    `forward` computes the losses with torchvision's own modules, which sample proposals and loop over images. The other
    methods use their weights on dense tensors.
    """

    anchors: Tensor
    scale: Tensor
    subject_columns: Tensor
    thing_columns: Tensor

    def __init__(self, config: DetectorConfig, vocabulary: Vocabulary = ACTION_GENOME) -> None:
        super().__init__()
        if not vocabulary.things:
            raise ConfigurationError("every object of the vocabulary is a subject: name objects to pair subjects with")
        self.config = config
        self.vocabulary = vocabulary
        self.classes = 1 + len(vocabulary.objects)  # the background first
        self.normalise = Normalise()
        self.body: ResNet101C4 | CompactBody = ResNet101C4() if config.backbone == "resnet101" else CompactBody(config)
        generator = AnchorGenerator((config.anchor_sizes,), (config.anchor_ratios,))
        self.rpn = RegionProposalNetwork(
            generator, RPNHead(config.map_channels, generator.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7, bg_iou_thresh=0.3, batch_size_per_image=128, positive_fraction=0.5,
            pre_nms_top_n={"training": 2 * config.proposals, "testing": config.proposals_before_suppression},
            post_nms_top_n={"training": 2 * config.proposals, "testing": config.proposals},
            nms_thresh=config.proposal_iou,
        )  # fmt: skip
        self.roi_heads = RoIHeads(
            MultiScaleRoIAlign(["map"], config.region_size, config.region_samples), make_region_head(config),
            FastRCNNPredictor(config.feature_width, self.classes),
            fg_iou_thresh=0.5, bg_iou_thresh=0.5, batch_size_per_image=config.sampled_regions, positive_fraction=0.5,
            bbox_reg_weights=_DELTA_WEIGHTS,
            score_thresh=config.least_score, nms_thresh=config.object_iou, detections_per_img=config.pairs,
        )  # fmt: skip
        self.register_buffer("anchors", place_anchors(generator, config), persistent=False)  # (S, 4)
        size = [config.frame_width, config.frame_height]
        self.register_buffer("scale", torch.tensor(size * 2, dtype=torch.float32), persistent=False)
        self.register_buffer("subject_columns", torch.tensor(vocabulary.subject_indices), persistent=False)
        self.register_buffer("thing_columns", torch.tensor(vocabulary.thing_indices), persistent=False)

    def forward(self, frames: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Returns Faster R-CNN's four losses by name.

        frames: (N, H, W, 3) uint8.
        boxes: for each frame, (M, 4) corner boxes in pixels.
        labels: for each frame, (M,) int64; 0 is the background and 1 the first object of the vocabulary.
        """
        sizes = [(self.config.frame_height, self.config.frame_width)] * len(frames)
        maps = {"map": self.feature_map(self.normalise(frames)).float()}
        targets = [{"boxes": each, "labels": label} for each, label in zip(boxes, labels, strict=True)]
        with torch.autocast(frames.device.type, enabled=False):
            proposals, proposal_losses = self.rpn(images_of(self.config, sizes), maps, targets)
        _, region_losses = self.roi_heads(maps, proposals, sizes, targets)
        return {**proposal_losses, **region_losses}

    def feature_map(self, images: Tensor) -> Tensor:
        """Maps normalised images (N, 3, H, W) to (N, C, H / stride, W / stride)."""
        if isinstance(self.body, CompactBody):
            images = images.contiguous(memory_format=torch.channels_last)
        mapped: Tensor = self.body(images)
        return mapped

    def pairs(self, frames: Tensor, timestamps: Tensor) -> Pairs:
        """Returns the detected pairs (SGDet) in P slots for each frame. A frame without a subject has no pairs.

        A slot holds a region under one of its classes, so that a region may fill several slots. In a slot's
        `object_scores`, classes that are more probable than its own are 0 (STTran's duplicated boxes, for all classes).

        frames: (B, T, H, W, 3) uint8.
        timestamps: (B, T) seconds.
        """
        maps = self.feature_map(self.normalise(frames.flatten(0, 1)))  # (N, C, h, w), N = B * T
        return self._assemble(maps, self._detect(maps, self.config.persons), timestamps)

    def supplied_pairs(self, frames: Tensor, timestamps: Tensor, boxes: Tensor, labels: Tensor, mask: Tensor) -> Pairs:
        """Returns the detected pairs, then the annotated objects that were not found (STTran's training pairs).

        There are P + M slots for each frame. A slot of the last M is filled, under the annotated class, where no
        detection overlaps the object by an IoU of 0.5. All pairs have one subject, because one is annotated: the best
        detected one, or the annotated one where the two do not overlap by that much. Frames and timestamps are as for
        `pairs`.

        boxes: (B, T, 1 + M, 4) annotated corner boxes as fractions of the frame, the subject first.
        labels: (B, T, 1 + M) int64, indices into the vocabulary's objects.
        mask: (B, T, 1 + M) bool, true where there is a box.
        """
        maps = self.feature_map(self.normalise(frames.flatten(0, 1)))
        found = self._detect(maps, 1)
        annotated = boxes.flatten(0, 1) * self.scale  # (N, 1 + M, 4)
        person, things = annotated[:, :1], annotated[:, 1:]
        overlap = paired_generalised_iou(found.boxes[:, :, None], things[:, None])[0] * found.mask[..., None]
        missed = mask.flatten(0, 1)[:, 1:] & (overlap.amax(1) < FOUND_IOU)
        regions = self.classify(maps, annotated, torch.ones_like(annotated[..., 0], dtype=torch.bool))
        classes = labels.flatten(0, 1)
        known = nn.functional.one_hot(classes[:, 1:], len(self.vocabulary.objects)).to(found.scores.dtype)
        lost = paired_generalised_iou(found.subject[:, :1], person)[0] < FOUND_IOU  # (N, 1)
        slots = found.mask.shape[1] + missed.shape[1]
        supplied = Candidates(
            mask=torch.cat((found.mask, missed), 1),
            subject=_repeat(torch.where(lost[..., None], person, found.subject[:, :1]), slots),
            subject_scores=_repeat(torch.where(lost, 1.0, found.subject_scores[:, :1]), slots),
            subject_classes=_repeat(torch.where(lost, classes[:, :1], found.subject_classes[:, :1]), slots),
            subject_features=_repeat(
                torch.where(lost[..., None], regions.features[:, :1], found.subject_features[:, :1]), slots
            ),
            boxes=torch.cat((found.boxes, things), 1),
            scores=torch.cat((found.scores, known), 1),
            features=torch.cat((found.features, regions.features[:, 1:]), 1),
        )
        return self._assemble(maps, supplied, timestamps)

    def given_pairs(
        self,
        frames: Tensor,
        timestamps: Tensor,
        boxes: Tensor,
        mask: Tensor,
        *,
        person_first: bool,
        unmatched: bool = False,
    ) -> Pairs:
        """Returns the pairs of N given boxes (PredCls, SGCls) in N slots. The subject's own slot stays empty.

        `object_scores` are the detector's over the classes of things. Frames and timestamps are as for `pairs`.

        boxes: (B, T, N, 4) corner boxes as fractions of the frame.
        mask: (B, T, N) bool, true where there is a box.
        person_first: takes the first box as the subject, else the one that the detector scores highest as a subject.
        unmatched: adds P slots of the subject with each detection that overlaps no given box by an IoU of 0.5.
        """
        maps = self.feature_map(self.normalise(frames.flatten(0, 1)))
        pixels, real = boxes.flatten(0, 1) * self.scale, mask.flatten(0, 1)  # (B * T, N, 4), (B * T, N)
        regions = self.classify(maps, pixels, real)
        place = torch.arange(real.shape[1], device=real.device)
        likeness, kind = self._subject_likeness(regions)  # (B * T, N) each
        likeness = likeness * real
        subject_scores, subject = likeness.max(1, keepdim=True)  # (B * T, 1)
        if person_first:
            subject_scores, subject = likeness[:, :1], torch.zeros_like(subject)
        others = real & (place != subject) & real.gather(1, subject)
        things = regions.probabilities[..., 1:] * self._is_thing()
        slots = real.shape[1]
        given = Candidates(
            mask=others,
            subject=_repeat(_pick(pixels, subject), slots),
            subject_scores=_repeat(subject_scores, slots),
            subject_classes=_repeat(self.subject_columns[kind.gather(1, subject)], slots),
            subject_features=_repeat(_pick(regions.features, subject), slots),
            boxes=pixels,
            scores=things / things.sum(-1, keepdim=True).clamp(min=1e-6),
            features=regions.features,
        )
        if unmatched:
            found = self._detect(maps, 1)
            overlap = paired_generalised_iou(found.boxes[:, :, None], pixels[:, None])[0] * real[:, None]
            with_nothing = found.mask & (overlap.amax(-1) < FOUND_IOU) & others.any(1, keepdim=True)
            whose = {name: value[:, :1].expand_as(getattr(found, name)) for name, value in vars(given).items()
                     if name.startswith("subject")}  # fmt: skip
            given = given.followed_by(replace(found, mask=with_nothing, **whose))
        return self._assemble(maps, given, timestamps)

    def _detect(self, maps: Tensor, persons: int) -> Candidates:
        """Pairs the best objects of each frame with up to `persons` subjects; `maps` is (N, C, h, w)."""
        regions = self.classify(maps, *self.propose(maps))
        subject, subject_scores, subject_classes, subject_features = self._best_subjects(regions, persons)
        chosen, classes, mask = self._best_objects(regions)  # (N, P) each
        deltas = _pick(regions.deltas.flatten(2), chosen).unflatten(-1, (self.classes, 4))  # (N, P, 1 + C, 4)
        own = deltas.gather(2, (classes + 1)[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
        known = _pick(regions.probabilities, chosen)[..., 1:]  # (N, P, C)
        score = known.gather(-1, classes[..., None])
        boxes = self._decode(own, _pick(regions.boxes, chosen), _DELTA_WEIGHTS)
        found = subject_scores > self.config.least_score  # (N, K)
        whose, which, near = pair_up(subject, found, boxes)  # (N, P) each
        return Candidates(
            mask=mask.gather(1, which) & found.gather(1, whose) & near,
            subject=_pick(subject, whose),
            subject_scores=subject_scores.gather(1, whose),
            subject_classes=subject_classes.gather(1, whose),
            subject_features=_pick(subject_features, whose),
            boxes=_pick(boxes, which),
            scores=_pick(torch.where(known <= score, known, 0.0) * self._is_thing(), which),
            features=_pick(_pick(regions.features, chosen), which),
        )

    def propose(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Proposes regions of maps (N, C, h, w): boxes (N, R, 4) in pixels, and a mask (N, R) of the valid ones."""
        objectness, deltas = self.rpn.head([maps])
        # (N, A, h, w) -> (N, h * w * A), the order of the anchors
        scores = objectness[0].permute(0, 2, 3, 1).flatten(1)
        moves = deltas[0].unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)  # (N, S, 4)
        count = min(self.config.proposals_before_suppression, scores.shape[1])
        scores, best = scores.topk(count, dim=1)
        anchors = self.anchors[best]  # (N, K, 4)
        boxes = self._decode(_pick(moves, best), anchors, (1.0, 1.0, 1.0, 1.0))
        keep = suppress(boxes, scores.sigmoid() * _as_large(boxes, _SMALLEST_PROPOSAL), self.config.proposal_iou, 0.0)
        # Boxes are sorted by score already, so their places rank those that stay.
        places = torch.arange(count, 0, -1, device=scores.device, dtype=torch.float32)
        ranks, order = torch.where(keep, places, -places).topk(self.config.proposals, dim=1)
        return _pick(boxes, order), ranks > 0

    def classify(self, maps: Tensor, boxes: Tensor, mask: Tensor) -> Regions:
        """Computes features, class probabilities and box refinements of corner boxes (N, R, 4) in pixels."""
        flat = self.roi_heads.box_head(self._pool(maps, boxes))  # (N * R, F)
        logits, deltas = self.roi_heads.box_predictor(flat)
        by_frame = boxes.shape[:2]
        return Regions(
            boxes, mask, flat.unflatten(0, by_frame), logits.float().softmax(-1).unflatten(0, by_frame),
            deltas.float().unflatten(-1, (self.classes, 4)).unflatten(0, by_frame),
        )  # fmt: skip

    def _best_subjects(self, regions: Regions, persons: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns boxes (N, K, 4), scores (N, K), classes (N, K) and features (N, K, F) of the K best subjects."""
        scores, kind = self._subject_likeness(regions)
        scores, columns = scores * regions.mask, self.subject_columns[kind]  # (N, R) each
        if persons > 1:
            # Another region of the same subject must not count as another subject.
            scores = scores * suppress(self.boxes_of(regions, columns), scores, self.config.object_iou, 0.0)
        scores, best = scores.topk(persons, dim=1)
        chosen = Regions(
            _pick(regions.boxes, best), regions.mask.gather(1, best), _pick(regions.features, best),
            _pick(regions.probabilities, best), _pick(regions.deltas.flatten(2), best).unflatten(-1, (self.classes, 4)),
        )  # fmt: skip
        columns = columns.gather(1, best)
        return self.boxes_of(chosen, columns), scores, columns, chosen.features

    def _subject_likeness(self, regions: Regions) -> tuple[Tensor, Tensor]:
        """Returns each region's likeliest subject: its probability (N, R), and its place among the subjects (N, R)."""
        likeness, kind = regions.probabilities[..., 1 + self.subject_columns].max(-1)
        return likeness, kind

    def boxes_of(self, regions: Regions, columns: Tensor) -> Tensor:
        """Returns each region's box (N, R, 4), refined for the class in `columns` (N, R) of the vocabulary."""
        deltas = regions.deltas.gather(2, (columns + 1)[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
        return self._decode(deltas, regions.boxes, _DELTA_WEIGHTS)

    def _is_thing(self) -> Tensor:
        """Returns (C,) bool, true for things and false for subjects."""
        columns = torch.arange(len(self.vocabulary.objects), device=self.thing_columns.device)
        return (columns[:, None] == self.thing_columns).any(-1)

    def _best_objects(self, regions: Regions) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the P best objects: regions, classes of the vocabulary, and a mask of the valid ones, (N, P) each."""
        things = 1 + self.thing_columns  # H of them
        scores = (regions.probabilities[..., things] * regions.mask[..., None]).transpose(1, 2)  # (N, H, R)
        boxes = self._decode(regions.deltas[:, :, things], regions.boxes[:, :, None], _DELTA_WEIGHTS)  # (N, R, H, 4)
        scores = scores * _as_large(boxes, _SMALLEST_OBJECT).transpose(1, 2)
        keep = suppress(
            boxes.transpose(1, 2).flatten(0, 1), scores.flatten(0, 1), self.config.object_iou, self.config.least_score
        ).unflatten(0, (-1, len(self.vocabulary.things)))
        best, order = torch.where(keep, scores, -1.0).flatten(1).topk(self.config.pairs, dim=1)  # (N, P)
        regions_of_frame = regions.boxes.shape[1]
        return order % regions_of_frame, self.thing_columns[order // regions_of_frame], best > 0

    def _assemble(self, maps: Tensor, candidates: Candidates, timestamps: Tensor) -> Pairs:
        """Pools the regions around both boxes, clears empty slots, and splits N into B and T."""
        clip = timestamps.shape
        mask = candidates.mask
        around = union_boxes(candidates.subject, candidates.boxes)
        unions = self._pool(maps, around * mask[..., None]).unflatten(0, mask.shape)  # (N, P, C, S, S)

        def slots(values: Tensor) -> Tensor:
            cleared = values * mask.reshape(*mask.shape, *[1] * (values.dim() - 2))
            split: Tensor = cleared.unflatten(0, clip)
            return split

        return Pairs(
            mask=mask.unflatten(0, clip),
            subject_boxes=(candidates.subject / self.scale).unflatten(0, clip),
            subject_scores=candidates.subject_scores.unflatten(0, clip),
            object_boxes=slots(candidates.boxes / self.scale),
            object_scores=slots(candidates.scores),
            subject_features=candidates.subject_features.float().unflatten(0, clip),
            object_features=slots(candidates.features.float()),
            union_features=slots(unions),
            timestamps=timestamps,
            subject_classes=candidates.subject_classes.unflatten(0, clip) if self._has_kinds else None,
        )

    @property
    def _has_kinds(self) -> bool:
        return len(self.vocabulary.subjects) > 1

    def _pool(self, maps: Tensor, boxes: Tensor) -> Tensor:
        """Pools corner boxes (N, R, 4) in pixels from maps (N, C, h, w) by RoIAlign: (N * R, C, S, S)."""
        config = self.config
        frame = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
        rows = torch.cat((frame[:, None, None].expand(-1, boxes.shape[1], 1), boxes), -1).flatten(0, 1)
        pooled: Tensor = roi_align(
            maps.float(), rows, config.region_size, 1 / config.stride, config.region_samples, aligned=False
        )
        return pooled

    def _decode(self, deltas: Tensor, boxes: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
        """Moves boxes (..., 4) by a head's deltas (..., 4) as torchvision's `BoxCoder` does, and clips them."""
        size = boxes[..., 2:] - boxes[..., :2]
        centre = boxes[..., :2] + size / 2
        moved = centre + deltas[..., :2] / deltas.new_tensor(weights[:2]) * size
        grown = (deltas[..., 2:] / deltas.new_tensor(weights[2:])).clamp(max=_LARGEST_GROWTH).exp() * size
        decoded = torch.cat((moved - grown / 2, moved + grown / 2), -1)
        return clip_boxes_to_image(decoded, (self.config.frame_height, self.config.frame_width))  # type: ignore[no-any-return]


def images_of(config: DetectorConfig, sizes: list[tuple[int, int]]) -> ImageList:
    """Returns a stand-in for images, of which torchvision's proposal network reads only the sizes.

    The size of its tensor, which covers whole cells of the map, gives the distance of the anchors.
    """
    rows, columns = config.map_size
    return ImageList(torch.empty(1, 1, rows * config.stride, columns * config.stride), sizes)


def place_anchors(generator: AnchorGenerator, config: DetectorConfig) -> Tensor:
    """Returns all anchors of a frame, row by row, `stride` pixels apart: (S, 4) corner boxes in pixels."""
    images = images_of(config, [(config.frame_height, config.frame_width)])
    anchors: Tensor = generator(images, [torch.zeros(1, 1, *config.map_size)])[0]
    return anchors


def _as_large(boxes: Tensor, side: float) -> Tensor:
    """Returns (...,) bool: false for corner boxes (..., 4) of which clipping to the frame left next to nothing."""
    return (boxes[..., 2:] - boxes[..., :2] >= side).all(-1)


def _pick(values: Tensor, indices: Tensor) -> Tensor:
    """Picks rows (N, K, D) of values (N, R, D) by indices (N, K) int64."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[-1]))


def _repeat(values: Tensor, slots: int) -> Tensor:
    """Repeats one subject's values (N, 1, …) for every slot: (N, P, …)."""
    return values.expand(-1, slots, *values.shape[2:])

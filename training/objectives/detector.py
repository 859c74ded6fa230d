"""Training the detector of the two-stage family on single frames."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.checkpoint import load_matching_weights, save_checkpoint
from models.networks.detectors import Detector, DetectorConfig
from models.networks.detectors.weights import load_backbone
from training.configuration import TrainingConfig
from training.data.action_genome import read_vocabulary
from training.data.caches import annotation_key
from training.data.clips import ClipBatch, ClipDataset, collate
from training.detection import detection_figures
from training.evaluation import Figures
from training.objectives.parameters import rated_groups
from training.objectives.videos import frame_cache, split_videos
from training.targets import annotated_boxes

log = logging.getLogger("vsg.train")


class DetectorObjective:
    """Faster R-CNN's four losses."""

    def __init__(self, config: TrainingConfig, shape: DetectorConfig) -> None:
        self.config = config
        self.size = shape.frame_height, shape.frame_width
        videos, self.validation_videos = split_videos(config)
        self.data_key = annotation_key([*videos, *self.validation_videos])
        self.vocabulary = read_vocabulary(config.data)
        # The network comes before the frames: what it starts from may not fit, and a cache takes long to fill.
        self.model = Detector(shape, self.vocabulary)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.backbone_weights is not None:
            log.info("%s", load_backbone(self.model, config.backbone_weights))
        if config.initialise_from is not None:
            fresh = load_matching_weights(self.model, config.initialise_from, config.initialise_only)
            log.info("started from %s; new weights: %s", config.initialise_from, ", ".join(fresh) or "none")
        self.dataset = ClipDataset(
            videos, self.vocabulary, height=self.size[0], width=self.size[1], clip_length=1,
            cache=frame_cache(config),
        )  # fmt: skip

    @property
    def items_per_epoch(self) -> float:
        """Number of items that together show the training data once."""
        return self.dataset.items_per_epoch

    def collate(self, items: list[Any]) -> ClipBatch:
        """Items of the data set as one batch."""
        return collate(items, self.vocabulary)

    def prepare(self, batch: ClipBatch, generator: torch.Generator) -> ClipBatch:
        """The batch, augmented."""
        return self.config.augmentation(batch, generator)

    def loss_terms(self, model: nn.Module, batch: ClipBatch, device: torch.device) -> dict[str, Tensor]:
        """Objectness and boxes of the proposals, classes and boxes of the regions."""
        height, width = self.size
        fractions, classes, mask = (each.flatten(0, 1).to(device) for each in annotated_boxes(batch.targets))
        boxes = fractions.clamp(0, 1) * torch.tensor([width, height] * 2, device=device)  # (N, 1 + M, 4) pixels
        labels = classes + 1  # 0 is background
        # A box without area has no anchor.
        mask = mask & (boxes[..., 2:] - boxes[..., :2] > 1).all(-1)
        frames = batch.frames.flatten(0, 1).to(device, non_blocking=True)
        terms: dict[str, Tensor] = model(
            frames,
            [each[kept] for each, kept in zip(boxes, mask, strict=True)],
            [each[kept] for each, kept in zip(labels, mask, strict=True)],
        )
        return terms

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The backbone's learning rate, and that of everything else."""
        rate = self.config.learning_rate
        return rated_groups(
            self.model.named_parameters(), backbone=self.config.backbone_learning_rate or rate, text=rate, rest=rate,
            freeze_backbone=self.config.freeze_backbone,
        )  # fmt: skip

    def validate(self, model: nn.Module) -> Figures:
        """Returns the shares of annotated persons, objects and pairs that are detected."""
        assert isinstance(model, Detector)
        return {"detection": detection_figures(self.validation_videos, model)}

    def save(self, path: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """Writes a checkpoint."""
        assert isinstance(model, Detector)
        save_checkpoint(path, model, provenance)

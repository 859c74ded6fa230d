"""Training ARN, and a relation scorer on its queries."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.arn import Arn, ArnConfig
from models.networks.arn.weights import load_detr_weights
from models.networks.checkpoint import load_matching_weights, save_checkpoint
from models.networks.clip.image import ClipImageEncoder
from models.networks.clip.text import text_embeddings
from models.networks.scored import Scored
from training.configuration import TrainingConfig
from training.data.action_genome import read_vocabulary
from training.data.caches import annotation_key
from training.data.clips import ClipBatch, ClipDataset, collate
from training.evaluation import Figures
from training.losses import arn_loss
from training.objectives.parameters import rated_groups
from training.objectives.scoring import scored
from training.objectives.videos import frame_cache, split_videos
from training.prediction import evaluate_videos, network_predictor
from training.relation_losses import match_slots, related_term

log = logging.getLogger("vsg.train")


class ArnObjective:
    """Pairs matched to annotated ones (ARN eq 14); queries that are none are what the scorer calls unrelated."""

    def __init__(self, config: TrainingConfig, shape: ArnConfig, device: torch.device) -> None:
        self.config = config
        videos, self.validation_videos = split_videos(config)
        self.data_key = annotation_key([*videos, *self.validation_videos])
        self.vocabulary = read_vocabulary(config.data)
        # The network comes before the frames: what it starts from may not fit, and a cache takes long to fill.
        self.network = Arn(shape, self.vocabulary)
        if shape.triplet_prediction and config.starts_from_text:
            self.network.initialise_text(text_embeddings(config.text_embeddings, self.vocabulary))
        if config.detr_weights is not None:
            log.info("%s", load_detr_weights(self.network, config.detr_weights))
        if config.initialise_from is not None:
            fresh = load_matching_weights(self.network, config.initialise_from, config.initialise_only)
            log.info("started from %s; new weights: %s", config.initialise_from, ", ".join(fresh) or "none")
        self.model: Arn | Scored = self.network
        if config.relation_scoring:
            self.model = scored(self.network, config)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.imitated = ClipImageEncoder().to(device) if shape.mimicry else None
        self.dataset = ClipDataset(
            videos, self.vocabulary, height=shape.frame_height, width=shape.frame_width,
            clip_length=config.clip_length, cache=frame_cache(config),
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
        """Terms of eq 14 by name, and `related`."""
        frames, targets = batch.frames.to(device, non_blocking=True), batch.targets.to(device)
        said = model(frames)
        output, logits = said if isinstance(said, tuple) else (said, None)
        terms: dict[str, Tensor] = {}
        with torch.autocast(device.type, enabled=False):
            if not self.config.freeze_host:
                image_embeddings = None if self.imitated is None else self.imitated(frames)
                terms |= arn_loss(output, targets, self.config.loss, image_embeddings)
            if logits is not None:
                found = self.network.describe(output)
                matches = match_slots(
                    found["pair_mask"], found["subject_boxes"], found["object_boxes"],
                    found["object_scores"].argmax(-1), targets,
                )  # fmt: skip
                terms["related"] = related_term(logits, matches.related, found["pair_mask"], self.config.relation_loss)
        return terms

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Three learning rates: backbone, classifiers that start from text, everything else."""
        config = self.config
        return rated_groups(
            self.model.named_parameters(),
            backbone=config.backbone_learning_rate or config.learning_rate,
            text=config.text_learning_rate or config.learning_rate,
            rest=config.learning_rate,
            freeze_backbone=config.freeze_backbone,
        )

    def validate(self, model: nn.Module) -> Figures:
        """SGDet figures on the validation videos."""
        assert isinstance(model, Arn | Scored)
        predictor = replace(network_predictor(model), clip_length=self.config.clip_length)
        return evaluate_videos(self.validation_videos, predictor)

    def save(self, path: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """Writes a checkpoint."""
        assert isinstance(model, Arn | Scored)
        save_checkpoint(path, model, provenance)

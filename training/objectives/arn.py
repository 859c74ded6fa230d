"""Training ARN, and a relation scorer on its queries."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.graph.bundle import sha256_of
from models.networks.arn import Arn, ArnConfig
from models.networks.arn.network import ArnOutput
from models.networks.arn.weights import load_detr_weights
from models.networks.checkpoint import load_matching_weights, save_checkpoint
from models.networks.clip.image import ClipImageEncoder
from models.networks.clip.text import text_embeddings
from models.networks.scored import Scored
from training.configuration import TrainingConfig
from training.data.action_genome import read_vocabulary
from training.data.caches import annotation_key
from training.data.clips import ClipBatch, ClipDataset, collate
from training.data.described_pairs import DescribedDataset, ScorerBatch, collate_described
from training.evaluation import Figures
from training.losses import arn_loss
from training.objectives.parameters import rated_groups
from training.objectives.scoring import described_terms, scored
from training.objectives.videos import frame_cache, split_videos
from training.prediction import evaluate_videos, network_predictor
from training.relation_losses import match_slots, related_term
from training.targets import Targets

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
        clips = ClipDataset(
            videos, self.vocabulary, height=shape.frame_height, width=shape.frame_width,
            clip_length=config.clip_length, cache=frame_cache(config),
        )  # fmt: skip
        self.items_per_epoch = clips.items_per_epoch
        self.dataset: Dataset[Any] = clips
        if config.freeze_host and config.cache_pairs:
            self.model.to(device)
            key = f"{clips.picture_key()} {clips.annotation_key} {config.clip_length} {asdict(shape)}"
            key += f" {sha256_of(cast(Path, config.initialise_from))}"
            describe = partial(self._describe, device)
            self.dataset = DescribedDataset(clips, list(map(len, clips.clips)), describe, config.data / "cache", key)

    def collate(self, items: list[Any]) -> ClipBatch | ScorerBatch:
        """Items of the data set as one batch."""
        return collate_described(items) if isinstance(self.dataset, DescribedDataset) else self._collate_clips(items)

    def prepare(self, batch: ClipBatch | ScorerBatch, generator: torch.Generator) -> ClipBatch | ScorerBatch:
        """The frames, augmented; what a host says of them is as it is."""
        return self.config.augmentation(batch, generator) if isinstance(batch, ClipBatch) else batch

    def loss_terms(self, model: nn.Module, batch: ClipBatch | ScorerBatch, device: torch.device) -> dict[str, Tensor]:
        """Terms of eq 14 by name, and `related`."""
        if isinstance(batch, ScorerBatch):
            return described_terms(model, batch.to(device), self.config.relation_loss)
        frames, targets = batch.frames.to(device, non_blocking=True), batch.targets.to(device)
        said = model(frames)
        output, logits = said if isinstance(said, tuple) else (said, None)
        terms: dict[str, Tensor] = {}
        with torch.autocast(device.type, enabled=False):
            if not self.config.freeze_host:
                image_embeddings = None if self.imitated is None else self.imitated(frames)
                terms |= arn_loss(output, targets, self.config.loss, image_embeddings)
            if logits is not None:
                related, mask = self._related(output, targets)
                terms["related"] = related_term(logits, related, mask, self.config.relation_loss)
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

    def _collate_clips(self, items: list[Any]) -> ClipBatch:
        return collate(items, self.vocabulary)

    def _related(self, output: ArnOutput, targets: Targets) -> tuple[Tensor, Tensor]:
        """Returns which queries are annotated pairs, and which are pairs at all: (B, T, P) bool each."""
        found = self.network.describe(output)
        mask, labels = found["pair_mask"], found["object_scores"].argmax(-1)
        return match_slots(mask, found["subject_boxes"], found["object_boxes"], labels, targets).related, mask

    @torch.no_grad()
    def _describe(self, device: torch.device, items: list[Any]) -> ScorerBatch:
        assert isinstance(self.model, Scored)
        batch = self._collate_clips(items)
        frames = batch.frames.to(device)
        output = self.network.eval()(frames)
        related, _ = self._related(output, batch.targets.to(device))
        return ScorerBatch(self.model.describe(frames, output), related)

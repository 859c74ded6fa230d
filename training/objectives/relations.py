"""Training a relation network on the pairs of a frozen detector, and a relation scorer beside it."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from models.errors import WeightsError
from models.graph.bundle import sha256_of
from models.graph.vocabulary import Vocabulary
from models.networks.checkpoint import load_checkpoint, load_matching_weights, save_checkpoint
from models.networks.clip.crops import ClipCropEncoder
from models.networks.clip.text import photo_prompt, text_embeddings
from models.networks.detectors import Detector
from models.networks.processes import mean_over_processes
from models.networks.relations.mosa import Mosa
from models.networks.relations.pairs import Pairs
from models.networks.relations.tr2 import Tr2
from models.networks.relations.word_vectors import initialise_words, read_word_vectors
from models.networks.scored import Scored
from models.networks.two_stage import RelationNetworkConfig, TwoStage, TwoStageConfig, what_it_gives, with_labels
from training.configuration import TrainingConfig
from training.data.action_genome import read_vocabulary
from training.data.caches import annotation_key
from training.data.clips import ClipBatch, ClipDataset, collate
from training.data.described_pairs import DescribedDataset, ScorerBatch, collate_described
from training.data.pair_annotations import PairBatch, PairDataset, collate_pairs
from training.errors import ConfigurationError
from training.evaluation import Figures
from training.objectives.parameters import rated_groups
from training.objectives.scoring import described_terms, scored
from training.objectives.videos import frame_cache, split_videos
from training.prediction import evaluate_videos, network_predictor
from training.relation_losses import Matches, given_matches, match_slots, related_term, relation_terms
from training.targets import Targets, annotated_boxes

_FRAMES_AT_ONCE = 32
"""Frames that the detector takes at once in training."""

log = logging.getLogger("vsg.train")


class RelationObjective:
    """Predicates of the pairs that are annotated, and which pairs are, of PredCls, SGCls or SGDet."""

    def __init__(self, config: TrainingConfig, shape: RelationNetworkConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.vocabulary = read_vocabulary(config.data)
        self.network = _network(config, shape, self.vocabulary)
        self.model: TwoStage | Scored = self.network
        if config.relation_scoring:
            self.model = scored(self.network, config)
        self.network.to(device)
        videos, self.validation_videos = split_videos(config)
        self.data_key = annotation_key([*videos, *self.validation_videos])
        height, width = self.network.frame_size
        clips = ClipDataset(
            videos, self.vocabulary, height=height, width=width, clip_length=config.clip_length,
            whole_videos=config.whole_videos, cache=frame_cache(config),
        )  # fmt: skip
        self._clips = clips
        # Who scores relations must see unrelated pairs, and annotated boxes have none.
        self._with_unmatched = config.task == "predcls" and config.relation_scoring
        if not config.freeze_host:  # FReMuRe reads them in evaluation too
            self.network.relations.predicate_counts.copy_(torch.from_numpy(clips.predicates.sum((0, 1))))
        self.dataset: Dataset[Any] = clips
        if config.cache_pairs:
            found_by = f"by slot {config.task} {sha256_of(cast(Path, config.detector))} {shape.clip_features}"
            found_by += " with unmatched detections" if self._with_unmatched else ""
            self.dataset = PairDataset(clips, self._find, config.data / "cache", found_by)
            if config.freeze_host:
                self.dataset = self._described(self.dataset, found_by)

    @property
    def items_per_epoch(self) -> float:
        """Number of items that together show the training data once."""
        return self._clips.items_per_epoch

    def collate(self, items: list[Any]) -> ClipBatch | PairBatch | ScorerBatch:
        """Items of the data set as one batch."""
        if isinstance(self.dataset, DescribedDataset):
            return collate_described(items)
        return self._collate_pairs(items)

    def prepare(
        self, batch: ClipBatch | PairBatch | ScorerBatch, generator: torch.Generator
    ) -> ClipBatch | PairBatch | ScorerBatch:
        """Frames are augmented; pairs that lie ready are what they are."""
        return self.config.augmentation(batch, generator) if isinstance(batch, ClipBatch) else batch

    def loss_terms(
        self, model: nn.Module, batch: ClipBatch | PairBatch | ScorerBatch, device: torch.device
    ) -> dict[str, Tensor]:
        """Terms by name: the predicate groups, what the network adds of its own, `related` and `object`."""
        config = self.config.relation_loss
        if isinstance(batch, ScorerBatch):
            return described_terms(model, batch.to(device), config)
        if isinstance(batch, ClipBatch):
            batch = PairBatch(self._find(batch), batch.targets)
        pairs, targets = batch.pairs.to(device), batch.targets.to(device)
        terms: dict[str, Tensor] = {}
        matches = self._matches(pairs, targets)
        if self.config.task == "sgcls":
            logits = self.network.classify(pairs)
            wrong = F.cross_entropy(logits.flatten(0, 2), matches.labels.flatten(), reduction="none")
            objects = mean_over_processes(matches.matched.sum()).clamp(min=1)
            terms["object"] = config.object * (wrong * matches.matched.flatten()).sum() / objects
        pairs, shown = self._labelled(pairs, matches, targets), self._shown(pairs)
        if self.config.freeze_host:  # it sees what the scorer does, as in evaluation
            pairs = replace(pairs, mask=shown)
        related = None
        if isinstance(self.model, Scored):
            relations, related = model(pairs, shown)
        else:
            relations = model(pairs)
        if self._with_unmatched and not self.config.freeze_host:
            # Detections that nobody annotated are for the scorer: in evaluation the host sees annotated pairs alone.
            pairs = replace(pairs, mask=matches.matched)
            relations, _ = model(pairs)
        with torch.autocast(device.type, enabled=False):
            if not self.config.freeze_host:
                network = self.network.relations
                terms.update(relation_terms(relations, matches, network.predicate_counts, config, self.vocabulary))
                terms |= network.loss_terms(pairs, relations, matches.predicates)
            if related is not None:
                terms["related"] = related_term(related, matches.related, shown, config)
        return terms

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One learning rate, and one for what starts from text."""
        rate = self.config.learning_rate
        return rated_groups(
            self.model.named_parameters(), backbone=rate, text=self.config.text_learning_rate or rate, rest=rate,
            freeze_backbone=True,
        )  # fmt: skip

    def validate(self, model: nn.Module) -> Figures:
        """Figures of the task on the validation videos."""
        assert isinstance(model, TwoStage | Scored)
        return evaluate_videos(self.validation_videos, network_predictor(model, self.config.task))

    def save(self, path: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """Writes a checkpoint, with the detector in it."""
        assert isinstance(model, TwoStage | Scored)
        save_checkpoint(path, model, provenance)

    def _collate_pairs(self, items: list[Any]) -> ClipBatch | PairBatch:
        gather = collate_pairs if self.config.cache_pairs else collate
        return gather(items, self.vocabulary)

    def _matches(self, pairs: Pairs, targets: Targets) -> Matches:
        if self.config.task == "sgdet":
            return match_slots(pairs.mask, pairs.subject_boxes, pairs.object_boxes, pairs.labels, targets)
        return given_matches(pairs.mask, targets)

    def _labelled(self, pairs: Pairs, matches: Matches, targets: Targets) -> Pairs:
        """The pairs with the classes that the task gives, or that are learned from."""
        if self.config.task == "sgdet":
            return pairs
        labels = torch.where(matches.matched, matches.labels, pairs.labels)
        return with_labels(pairs, labels, targets.subjects()[..., None])

    def _shown(self, pairs: Pairs) -> Tensor:
        """The pairs that a scorer sees.

        In SGDet, what the detector missed lies behind its own slots. A scorer would learn that a certain box is
        related, and find such a box in other frames.
        """
        if self.config.task != "sgdet":
            return pairs.mask
        detector = self.network.detector
        assert isinstance(detector, Detector)  # `_network` takes no other
        slots = torch.arange(pairs.mask.shape[-1], device=pairs.mask.device)
        return pairs.mask & (slots < detector.config.pairs)

    def _described(self, pairs: PairDataset, found_by: str) -> DescribedDataset:
        """What the frozen host says of all clips."""
        clips, config = self._clips, self.config
        key = f"{clips.picture_key()} {clips.annotation_key} {found_by} {sha256_of(cast(Path, config.initialise_from))}"
        key += f" {config.clip_length} {config.whole_videos} {asdict(config.model)}"
        return DescribedDataset(pairs, list(map(len, clips.clips)), self._describe, config.data / "cache", key)

    @torch.no_grad()
    def _describe(self, items: list[Any]) -> ScorerBatch:
        assert isinstance(self.model, Scored)
        batch = self._collate_pairs(items)
        assert isinstance(batch, PairBatch)
        pairs, targets = batch.pairs.to(self.device), batch.targets.to(self.device)
        matches = self._matches(pairs, targets)
        shown = self._shown(pairs)
        pairs = replace(self._labelled(pairs, matches, targets), mask=shown)
        self.model.to(self.device).eval()
        return ScorerBatch(self.model.describe(pairs, self.model.host(pairs)), matches.related & shown)

    @torch.no_grad()
    def _find(self, batch: ClipBatch) -> Pairs:
        """Pairs to train on: detected ones with what was missed for SGDet, else of the annotated boxes.

        For a relation scorer in PredCls, detections that overlap no annotated box join them as unrelated pairs.
        """
        time = batch.frames.shape[1]
        cuts = [slice(first, first + _FRAMES_AT_ONCE) for first in range(0, time, _FRAMES_AT_ONCE)]
        return Pairs.joined([self._find_in(batch, cut) for cut in cuts])

    def _find_in(self, batch: ClipBatch, cut: slice) -> Pairs:
        """Pairs of some of the frames: a whole video at once would not fit beside the detector."""
        frames, timestamps = batch.frames[:, cut].to(self.device), batch.timestamps[:, cut].to(self.device)
        annotated = annotated_boxes(batch.targets.to(self.device))
        boxes, labels, mask = (each[:, cut] for each in annotated)
        detector = self.network.detector.eval()
        assert isinstance(detector, Detector)  # `_network` takes no other
        if self.config.task == "sgdet":
            pairs = detector.supplied_pairs(frames, timestamps, boxes, labels, mask)
        else:
            pairs = detector.given_pairs(
                frames, timestamps, boxes, mask, person_first=True, unmatched=self._with_unmatched
            )
        pairs = replace(pairs, mask=pairs.mask & batch.real[:, cut].to(self.device)[..., None])
        return self.network.with_crops(pairs, frames)


def _network(config: TrainingConfig, shape: RelationNetworkConfig, vocabulary: Vocabulary) -> TwoStage:
    """The two-stage network of a configuration, with the detector's weights and whatever the others start from."""
    if config.detector is None:
        raise ConfigurationError("a relation network needs `detector`: the checkpoint of a trained detector")
    detector, _ = load_checkpoint(config.detector)
    if not isinstance(detector, Detector):
        raise WeightsError(f"{config.detector} holds no detector but a {type(detector).__name__}")
    if not detector.vocabulary.same_columns(vocabulary):
        raise ConfigurationError(
            f"{config.detector} was trained with another vocabulary than {config.data} has; train one on these data"
        )
    fitted = replace(shape, **what_it_gives(detector.config))
    network = TwoStage(TwoStageConfig(detector.config, fitted, config.task), vocabulary)
    network.detector.load_state_dict(detector.state_dict())
    if network.crops is not None:
        network.crops = ClipCropEncoder()
    if config.word_vectors is not None:
        initialise_words(network.relations, read_word_vectors(config.word_vectors, fitted.word_width, vocabulary))
    if isinstance(network.relations, Tr2 | Mosa) and config.starts_from_text:
        network.relations.initialise_text(text_embeddings(config.text_embeddings, vocabulary, photo_prompt))
    if config.initialise_from is not None:
        fresh = load_matching_weights(network, config.initialise_from, config.initialise_only)
        log.info("started from %s; new weights: %s", config.initialise_from, ", ".join(fresh) or "none")
    return network

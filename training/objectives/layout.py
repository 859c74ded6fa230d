"""Training a layout network on annotated relations of photographs and videos, and a relation scorer beside it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from models.graph.vocabulary import Vocabulary
from models.networks.checkpoint import load_matching_weights, save_checkpoint
from models.networks.relations.layout import Layout, LayoutConfig
from models.networks.relations.names import SHIPPED_TABLE, NameTable
from models.networks.relations.pairs import Relations
from models.networks.scored import Scored
from training.configuration import TrainingConfig
from training.data.action_genome import read_vocabulary
from training.data.caches import file_key
from training.data.relations.batches import RelationAugmentation, RelationBatch, collate_sequences
from training.data.relations.examples import Example, Names, is_held_out, make_sequences
from training.data.relations.record import read_records
from training.errors import ConfigurationError
from training.evaluation import Figures
from training.objectives.parameters import rated_groups
from training.objectives.scoring import scored
from training.relation_evaluation import flat_figures, judge
from training.relation_figures import relation_figures

log = logging.getLogger("vsg.train")

_SLIDESHOWS = (1, 1, 2, 4, 8, 16)
"""Photographs are shown as videos of so many frames, so that a relation scorer learns that a video is not one frame."""
_SHOWN_OFTEN = 30
"""Annotated pairs of an object that are enough to take what was hardly ever said of it for impossible."""
_SELDOM = 0.005
"""Share of an object's annotated pairs below which a predicate is a slip or a rarity, such as sitting on a table."""
_UNANNOTATED = 0.5
"""Weight of a pair that nobody annotated, and that is taken for unrelated."""


class LayoutObjective:
    """Predicates of pairs as far as they are known, and whether pairs are related."""

    def __init__(self, config: TrainingConfig, shape: LayoutConfig) -> None:
        self.config = config
        self.augmentation = RelationAugmentation()
        files = relation_files(config.data)
        self.data_key = file_key(files)
        self.vocabulary = read_vocabulary(config.data)
        options, names = config.relations, Names()
        records = [record for file in files for record in read_records(file)]
        kept = [record for record in records if not is_held_out(record, options.validation_share)]
        held_out = [record for record in records if is_held_out(record, options.validation_share)]
        sequences = make_sequences(kept, self.vocabulary, names, without=options.without)
        self.held_out = make_sequences(held_out, self.vocabulary, names)
        windows = [
            sequence[start : start + config.clip_length]
            for sequence in sequences
            for start in range(0, len(sequence), config.clip_length)
            for _ in range(options.repeats.get(sequence[0].source, 1))
        ]
        if not windows:
            raise ConfigurationError(f"{config.data} has no pairs to train on: lower relations.validation_share")
        self._windows = windows
        self.dataset: Dataset[Any] = _Sequences(windows)
        table = NameTable(options.name_table or SHIPPED_TABLE)
        self.embeddings = table.embeddings(names.index)
        self.network = Layout(shape, self.vocabulary)
        self.network.object_embeddings.copy_(table.embeddings(self.vocabulary.objects))
        self.network.affordances.copy_(affordances(sequences, self.vocabulary, names))
        asked = torch.stack([torch.from_numpy(each.weights).amax(0) for window in windows for each in window])
        self.network.asked.copy_((asked.amax(0) > 0).float())
        if config.initialise_from is not None:
            fresh = load_matching_weights(self.network, config.initialise_from, config.initialise_only)
            log.info("started from %s; new weights: %s", config.initialise_from, ", ".join(fresh) or "none")
        self.model: Layout | Scored = scored(self.network, config) if config.relation_scoring else self.network
        counts = Counter(window[0].source for window in windows)
        log.info("sequences: %s", ", ".join(f"{source} {count}" for source, count in sorted(counts.items())))

    @property
    def items_per_epoch(self) -> float:
        """Number of items that together show the training data once."""
        return len(self._windows)

    def collate(self, items: list[list[Example]]) -> list[RelationBatch]:
        """Returns the sequences in a few batches, so that none is padded to much more than it holds."""
        parts: dict[tuple[bool, int], list[list[Example]]] = {}
        for sequence in items:
            most = max(map(len, sequence))
            # 1, up to 7, up to 31 and more pairs: fewer parts would be padded more, more would be many small steps.
            parts.setdefault((len(sequence) > 1, most.bit_length() // 2), []).append(sequence)
        return [collate_sequences(part, self.embeddings) for _, part in sorted(parts.items())]

    def prepare(self, batch: list[RelationBatch], generator: torch.Generator) -> list[RelationBatch]:
        """Returns the batches, augmented; photographs become slideshows."""
        return [_as_slideshow(self.augmentation(part, generator), generator) for part in batch]

    def loss_terms(self, model: nn.Module, batch: list[RelationBatch], device: torch.device) -> dict[str, Tensor]:
        """Returns `predicates`, the cross-entropy of what is known, and `related`, that of the relation scorer."""
        wrong: list[Tensor] = []
        weights: list[Tensor] = []
        related: list[Tensor] = []
        related_weights: list[Tensor] = []
        for part in (each.to(device) for each in batch):
            said = model(part.pairs)
            relations, logits = said if isinstance(said, tuple) else (said, None)
            assert isinstance(relations, Relations)
            scores = torch.cat(list(relations.probabilities.values()), -1).float().clamp(1e-6, 1 - 1e-6)
            wrong.append(F.binary_cross_entropy(scores, part.holds.float(), weight=part.weights, reduction="sum"))
            weights.append(part.weights.sum())
            if logits is not None:
                known = ~part.related.isnan() & part.pairs.mask
                weight = torch.where(part.annotated, 1.0, _UNANNOTATED)[known]
                loss = F.cross_entropy(logits[known].float(), part.related[known].long(), reduction="none")
                related.append((loss * weight).sum())
                related_weights.append(weight.sum())
        losses = self.config.relation_loss
        terms = {"predicates": losses.predicates * sum(wrong) / torch.stack(weights).sum().clamp(min=1)}
        if related:
            terms["related"] = losses.related * sum(related) / torch.stack(related_weights).sum().clamp(min=1)
        return terms

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns one group: all learn at one rate."""
        rate = self.config.learning_rate
        return rated_groups(self.model.named_parameters(), backbone=rate, text=rate, rest=rate, freeze_backbone=False)

    def validate(self, model: nn.Module) -> Figures:
        """Returns the figures of the held-out part of each data set."""
        assert isinstance(model, Layout | Scored)
        by_source: dict[str, list[list[Example]]] = {}
        for sequence in self.held_out:
            by_source.setdefault(sequence[0].source, []).append(sequence)
        return {
            source: flat_figures(relation_figures(judge(model, sequences, self.embeddings), self.vocabulary))
            for source, sequences in by_source.items()
        }

    def save(self, path: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """Writes a checkpoint."""
        assert isinstance(model, Layout | Scored)
        save_checkpoint(path, model, provenance)


class _Sequences(Dataset[list[Example]]):
    def __init__(self, sequences: list[list[Example]]) -> None:
        self.sequences = sequences

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> list[Example]:
        return self.sequences[index]


def affordances(sequences: Sequence[Sequence[Example]], vocabulary: Vocabulary, names: Names) -> Tensor:
    """Returns what the data says of each object: (C, R) float32, see `Layout`.

    A predicate that runs from the subject is 0 where it holds of less than the share `_SELDOM` of `_SHOWN_OFTEN`
    annotated pairs or more. Places are left alone, and so is what is another predicate's opposite.
    """
    index = {names.index[label]: place for place, label in enumerate(vocabulary.objects) if label in names.index}
    shown, said = torch.zeros(len(vocabulary.objects)), torch.zeros(len(vocabulary.objects), len(vocabulary.predicates))
    for example in (example for sequence in sequences for example in sequence):
        for row in (example.annotated & example.of_subject).nonzero()[0].tolist():
            if (place := index.get(int(example.names[row, 1]))) is not None:
                shown[place] += 1
                said[place] += torch.from_numpy(example.holds[row] & (example.weights[row] == 1))
    judged = torch.tensor([
        not group.runs_from_object and predicate not in group.says_little
        for group in vocabulary.groups
        for predicate in group.predicates
    ])  # fmt: skip
    seldom = (said < _SELDOM * shown[:, None]) & (shown >= _SHOWN_OFTEN)[:, None] & judged
    return (~seldom).float()


def relation_files(folder: Path) -> list[Path]:
    """Returns the relation files of a data folder, sorted. Raises ConfigurationError where it has none."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise ConfigurationError(
            f"{folder} has no *.jsonl file of relations: make one with `vsg data relations FORMAT FILE… OUT`"
        )
    return files


def _as_slideshow(batch: RelationBatch, generator: torch.Generator) -> RelationBatch:
    """Returns photographs as videos of a few frames; a batch with videos stays as it is."""
    count, time = batch.pairs.mask.shape[:2]
    frames = _SLIDESHOWS[int(torch.randint(len(_SLIDESHOWS), (1,), generator=generator))]
    if time > 1 or count < frames:
        return batch
    whole = count // frames * frames

    def shown(values: Tensor) -> Tensor:
        return values[:whole].view(whole // frames, frames, *values.shape[2:])

    return batch.each(shown)

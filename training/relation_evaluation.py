"""Runs networks on annotated relations without pixels, and scores what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.engines import EngineName
from models.graph.bundle import MANIFEST_FILE, Bundle
from models.graph.vocabulary import Vocabulary
from models.networks.checkpoint import load_checkpoint
from models.networks.relations.layout import Layout
from models.networks.relations.names import NameTable
from models.networks.scored import Scored
from training.data.relations.batches import RelationBatch, collate_sequences
from training.data.relations.examples import Example, Names, make_sequences
from training.data.relations.record import read_records
from training.errors import EvaluationError
from training.relation_bundles import judge_bundle
from training.relation_figures import JudgedPairs, relation_figures

_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class RelationResult:
    """Figures of a model, and what they leave out.

    figures: see `relation_figures`.
    left_out: pairs of things that the model cannot name, or of subjects that it has none of.
    """

    figures: dict[str, Any]
    left_out: int = 0


def evaluate_relations(file: Path, model: Path, engine: EngineName | None = None) -> RelationResult:
    """Scores a checkpoint or a bundle on a file of relations.

    A checkpoint reads all names. A bundle is run behind its detector, so that only pairs of its own subjects and things
    count.

    Raises EvaluationError where the model needs pixels or the file has no pairs, WeightsError where the checkpoint
    cannot be read or a name has no embedding.
    """
    names = Names()
    if (model / MANIFEST_FILE).is_file():
        bundle = Bundle.load(model)
        vocabulary = bundle.manifest.vocabulary
        sequences = _sequences(file, vocabulary, names)
        pairs, left_out = judge_bundle(bundle, sequences, list(names.index), engine or "onnxruntime-cpu")
        return RelationResult(relation_figures(pairs, vocabulary), left_out)
    if engine is not None:
        raise EvaluationError(f"{model} is not a bundle, so torch runs it, not {engine}; leave the engine out")
    network, _ = load_checkpoint(model)
    host = network.host if isinstance(network, Scored) else network
    if not isinstance(host, Layout) or not isinstance(network, Layout | Scored):
        raise EvaluationError(f"{model} needs pixels, which {file} does not have: evaluate it with --data")
    sequences = _sequences(file, host.vocabulary, names)
    pairs = judge(network, sequences, NameTable().embeddings(names.index))
    return RelationResult(relation_figures(pairs, host.vocabulary))


def _sequences(file: Path, vocabulary: Vocabulary, names: Names) -> list[list[Example]]:
    sequences = make_sequences(read_records(file), vocabulary, names)
    if not sequences:
        raise EvaluationError(f"{file} has no pairs to score")
    return sequences


@torch.inference_mode()
def judge(network: Layout | Scored, sequences: Sequence[Sequence[Example]], embeddings: Tensor) -> JudgedPairs:
    """Runs a network in evaluation mode on sequences, each of them whole.

    embeddings: (names, N) float32, those of the sequences' names by number.
    """
    host = network.host if isinstance(network, Scored) else network
    assert isinstance(host, Layout)
    parts = []
    device = next(network.parameters()).device
    for batch in _batches(sequences, embeddings):
        moved = batch.to(device)
        said = network(moved.pairs)
        relations, logits = said if isinstance(said, tuple) else (said, None)
        scores = torch.cat(list(relations.probabilities.values()), -1)
        mask = batch.pairs.mask
        related = logits.softmax(-1)[..., 1][mask].cpu().numpy() if logits is not None else None
        parts.append(
            JudgedPairs(
                scores=scores.cpu()[mask].numpy(),
                relatedness=related,
                holds=batch.holds[mask].numpy(),
                asked=(batch.weights[mask] == 1).numpy(),
                annotated=batch.annotated[mask].numpy(),
                related=batch.related[mask].numpy(),
                of_subject=batch.of_subject[mask].numpy(),
            )
        )
    return JudgedPairs.joined(parts)


def _batches(sequences: Sequence[Sequence[Example]], embeddings: Tensor) -> Iterator[RelationBatch]:
    ranked = sorted(sequences, key=lambda sequence: (len(sequence), max(map(len, sequence))))
    gathered: list[Sequence[Example]] = []
    for sequence in ranked:
        size = len(sequence) * max(map(len, sequence))
        if gathered and size * (len(gathered) + 1) > _PAIRS_AT_ONCE:
            yield collate_sequences(gathered, embeddings)
            gathered = []
        gathered.append(sequence)
    if gathered:
        yield collate_sequences(gathered, embeddings)


def flat_figures(figures: dict[str, Any]) -> dict[str, float]:
    """Returns the figures that a training log shows, by name, without those that could not be measured."""
    flat = {"ap": figures["mean"]["ap"], "ap_all_pairs": figures["mean"]["ap_all_pairs"]}
    flat |= {"related": figures["related"], "ece": figures["ece"]}
    flat |= {f"top1/{group}": value for group, value in figures["top1_of_subjects"].items()}
    return {name: value for name, value in flat.items() if value is not None}

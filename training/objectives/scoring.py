"""Attaching RS-Net to a host, and its loss where the host has spoken before."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from models.networks.checkpoint import load_checkpoint, load_matching_weights
from models.networks.scored import Host, Scored, ScoredConfig
from training.configuration import TrainingConfig
from training.data.described_pairs import ScorerBatch
from training.relation_losses import RelationLossConfig, related_term


def scored(host: Host, config: TrainingConfig) -> Scored:
    """The host with a relation scorer; the host keeps its weights, and with `freeze_host` learns no more.

    The scorer is fresh, unless the checkpoint of `initialise_from` has one.
    """
    network = Scored(
        ScoredConfig(host.config, replace(config.scorer, input_width=host.representation_width)), host=host
    )
    if config.initialise_from is not None and isinstance(load_checkpoint(config.initialise_from)[0], Scored):
        load_matching_weights(network, config.initialise_from, ("scorer.",))
    if config.freeze_host:
        network.freeze_host()
    return network


def described_terms(model: nn.Module, batch: ScorerBatch, config: RelationLossConfig) -> dict[str, Tensor]:
    """Returns `related`, the scorer's loss, on pairs that a frozen host has described."""
    _, logits = model(batch.pairs)
    return {"related": related_term(logits, batch.related, batch.pairs.mask, config)}

"""Attaching RS-Net to a host."""

from __future__ import annotations

from dataclasses import replace

from models.networks.checkpoint import load_checkpoint, load_matching_weights
from models.networks.scored import Host, Scored, ScoredConfig
from training.configuration import TrainingConfig


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

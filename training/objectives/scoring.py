"""Attaching RS-Net to a host."""

from __future__ import annotations

from dataclasses import replace

from models.networks.scored import Host, Scored, ScoredConfig
from training.configuration import TrainingConfig


def scored(host: Host, config: TrainingConfig) -> Scored:
    """The host with a fresh relation scorer; the host keeps its weights, and with `freeze_host` learns no more."""
    network = Scored(
        ScoredConfig(host.config, replace(config.scorer, input_width=host.representation_width)), host=host
    )
    if config.freeze_host:
        network.freeze_host()
    return network

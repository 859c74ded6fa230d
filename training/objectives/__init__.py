"""Objectives: network, data, loss and figures of a training run, in one module for each kind of network."""

from __future__ import annotations

import torch

from models.networks.arn import ArnConfig
from models.networks.detectors import DetectorConfig
from models.networks.relations.layout import LayoutConfig
from training.configuration import TrainingConfig
from training.objectives.arn import ArnObjective
from training.objectives.detector import DetectorObjective
from training.objectives.layout import LayoutObjective
from training.objectives.objective import Objective
from training.objectives.relations import RelationObjective


def make_objective(config: TrainingConfig, device: torch.device) -> Objective:
    """The objective of a configuration, with its network and data loaded."""
    match config.model:
        case ArnConfig():
            return ArnObjective(config, config.model, device)
        case DetectorConfig():
            return DetectorObjective(config, config.model)
        case LayoutConfig():
            return LayoutObjective(config, config.model)
        case _:
            return RelationObjective(config, config.model, device)

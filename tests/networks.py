"""Networks whose outputs react to their input, so that comparing outputs proves something.

DETR-like networks as they are initialised hardly look at the image: batch norms that were never calibrated let the
signal die out, and boxes start at one place. A tolerance of 1e-4 would hold between any two frames of such a network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from export.check import sample_frames
from models.arn import Arn, ArnConfig


def tiny(**changes: Any) -> ArnConfig:
    """A configuration that runs in milliseconds; `changes` win."""
    small: dict[str, Any] = {
        "frame_height": 64, "frame_width": 64, "clip_length": 3, "backbone": "compact",
        "width": 32, "heads": 2, "feed_forward": 32, "dropout": 0.0, "queries": 5, "text_width": 16,
        "encoder_layers": 1, "entity_layers": 2, "predicate_layers": 2,
        "compact_widths": (8, 16, 16), "compact_blocks": (1, 1, 1),
    }  # fmt: skip
    return ArnConfig(**(small | changes))


def make_lively(config: ArnConfig, seed: int = 0) -> Arn:
    """A network in evaluation mode with random weights that react: Kaiming's, and batch norms calibrated on sample
    frames.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Arn(config)
        _spread(network)
    frames = sample_frames(np.random.default_rng(seed), 2, 1, config.frame_height, config.frame_width)
    _calibrate(network.eval(), torch.from_numpy(frames))
    return network


@torch.no_grad()
def _spread(network: Arn) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    for head in (network.entity_decoder.subject_box, network.entity_decoder.object_box):
        nn.init.normal_(head.layers[-1].weight, std=0.1)  # type: ignore[arg-type]
    if network.dense_head is not None:
        # Scores that lie well apart, so that rounding does not change which cells become queries.
        nn.init.normal_(network.dense_head.classes.weight, std=0.2)
        nn.init.normal_(network.dense_head.distances.weight, std=0.05)


@torch.no_grad()
def _calibrate(network: Arn, frames: torch.Tensor) -> None:
    """Sets the statistics of every batch norm to those of its own input, from the first to the last in one pass."""

    def measure(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))  # type: ignore[operator, union-attr]
        norm.running_var.copy_(inputs[0].var((0, 2, 3)))  # type: ignore[operator, union-attr]

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    network(frames)
    for hook in hooks:
        hook.remove()

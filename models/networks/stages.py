"""A network as the stages it is exported in: what each takes and gives by name, and how much of a video it must see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.graph.bundle import FRAMES, RELATION_SCORES, TIMESTAMPS, Span
from models.graph.vocabulary import Vocabulary

__all__ = [
    "FRAMES",
    "PAIR_MASK",
    "RELATION_SCORES",
    "REPRESENTATION",
    "TIMESTAMPS",
    "NetworkStage",
    "SceneGraphNetwork",
    "Span",
]

PAIR_MASK = "pair_mask"
"""(B, T, P) bool: which slots hold a pair."""
REPRESENTATION = "representation"
"""(B, T, P, D) float32: how the host represents each pair; a relation scorer takes it."""


@dataclass(frozen=True)
class NetworkStage:
    """One part of a network. `module(*inputs)` returns a tuple of tensors named `outputs`; axes 0 and 1 of every input
    and output are batch and time.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    span: Span = "clip"

    @torch.inference_mode()
    def run(self, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Returns the outputs by name from the inputs by name, computed on the device that the module is on."""
        device = next((parameter.device for parameter in self.module.parameters()), torch.device("cpu"))
        inputs = (torch.from_numpy(np.ascontiguousarray(arrays[name])).to(device) for name in self.inputs)
        outputs = zip(self.outputs, self.module(*inputs), strict=True)
        return {name: tensor.cpu().numpy() for name, tensor in outputs}


class SceneGraphNetwork(Protocol):
    """What prediction and export need to know of a network that turns frames into scored pairs."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What it can name; the columns of its outputs follow it."""
        ...

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width that frames are stretched to."""
        ...

    @property
    def clip_length(self) -> int:
        """Most frames that a stage takes whose span is not `video`."""
        ...

    @property
    def slots_are_ranked(self) -> bool:
        """Whether the slots of a frame come in the order of a score, so that near ties may change places."""
        ...

    def stages(self) -> list[NetworkStage]:
        """The stages in order; together they give the tensors of `models.graph.predictions.prediction_names`."""
        ...

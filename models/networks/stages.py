"""The stages that a network is exported in: their inputs and outputs by name, and the span of video that each sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.graph.bundle import FRAMES, PICTURE_SIZE, RELATION_SCORES, TIMESTAMPS, Span
from models.graph.vocabulary import Vocabulary

__all__ = [
    "DECODED",
    "FRAMES",
    "PAIR_MASK",
    "PICTURE_SIZE",
    "RELATION_SCORES",
    "REPRESENTATION",
    "TIMESTAMPS",
    "NetworkStage",
    "SceneGraphNetwork",
    "Span",
]

PAIR_MASK = "pair_mask"
"""(B, T, P) bool: true where a slot holds a pair."""
REPRESENTATION = "representation"
"""(B, T, P, D) float32: the host's representation of each pair; a relation scorer reads it."""

DECODED = "decoded"
"""(B, T, P, E) float32: each pair in its context, as the host's predicate classifiers take it."""


@dataclass(frozen=True)
class NetworkStage:
    """One part of a network. Axes 0 and 1 of every input and output are batch and time.

    name: name of the stage in a bundle.
    module: takes the inputs in order; returns a tuple with the outputs in order.
    inputs: names of the tensors that the module takes.
    outputs: names of the tensors that it returns.
    span: how much of a video the stage must see at once.
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
    """Interface of a network that turns frames into scored pairs, as prediction and export need it."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The objects and predicates that it can name; the columns of its outputs follow their order."""
        ...

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        ...

    @property
    def clip_length(self) -> int:
        """Most frames that a stage takes at once, unless its span is `video`."""
        ...

    @property
    def slots_are_ranked(self) -> bool:
        """Whether a score sorts the slots of a frame. Then slots with nearly equal scores may change places."""
        ...

    def stages(self) -> list[NetworkStage]:
        """Returns the stages in order. Together they make the tensors that `prediction_names` lists."""
        ...

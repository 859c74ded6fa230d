"""A network as the stages it is exported in: what each takes and gives by name, and how much of a video it must see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

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


def run_stages(network: SceneGraphNetwork, frames: Tensor, timestamps: Tensor) -> dict[str, Tensor]:
    """Runs all stages on B videos that are one clip each: (B, T, H, W, 3) uint8 and (B, T) -> all outputs by name."""
    tensors: dict[str, Tensor] = {FRAMES: frames, TIMESTAMPS: timestamps}
    for stage in network.stages():
        tensors.update(run_stage(stage, tensors))
    return {name: tensor for name, tensor in tensors.items() if name not in (FRAMES, TIMESTAMPS)}


def run_stage(stage: NetworkStage, tensors: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    """One stage's outputs by name, from the tensors it needs."""
    return zip(stage.outputs, stage.module(*(tensors[name] for name in stage.inputs)), strict=True)

"""The interface of the training loop to a kind of network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.evaluation import Figures


class Objective(Protocol):
    """A network, what it is trained on, by which loss, and how it is measured."""

    @property
    def model(self) -> nn.Module:
        """The network that is trained, averaged and saved."""
        ...

    @property
    def dataset(self) -> Dataset[Any]:
        """Items that `collate` makes batches of."""
        ...

    @property
    def items_per_epoch(self) -> float:
        """Number of items that together show the training data once."""
        ...

    @property
    def data_key(self) -> str:
        """Hex digest of what is annotated on the videos it trains and validates on."""
        ...

    def collate(self, items: list[Any]) -> Any:
        """Items of the data set as one batch."""
        ...

    def prepare(self, batch: Any, generator: torch.Generator) -> Any:
        """A batch as one step sees it: augmented with the random numbers given."""
        ...

    def loss_terms(self, model: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """Weighted terms by name, whose sum is the loss; `model` is the network as the loop has wrapped it."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters and learning rates, for the optimiser."""
        ...

    def validate(self, model: nn.Module) -> Figures:
        """Figures on the validation videos, by name; `model` is in evaluation mode."""
        ...

    def save(self, path: Path, model: nn.Module, provenance: dict[str, Any]) -> None:
        """Writes a checkpoint."""
        ...

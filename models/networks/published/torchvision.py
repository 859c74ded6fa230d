"""torchvision's COCO detectors from its published weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from models.errors import WeightsError
from models.networks.detectors.torchvision_detectors import (
    Architecture,
    TorchvisionConfig,
    TorchvisionDetector,
    make_model,
)
from models.networks.tensor_file import read_tensor_file

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
LICENCE = "BSD-3-Clause (torchvision); trained on COCO"


def download_torchvision(architecture: Architecture) -> Mapping[str, Tensor]:
    """Downloads torchvision's COCO weights, once. Raises WeightsError where they cannot be had."""
    weights = get_model_weights(architecture)["DEFAULT"]
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"the weights of {architecture} cannot be downloaded: {error}; download {weights.url} elsewhere and give "
            "the file"
        ) from error
    return state


def read_torchvision(path: Path) -> tuple[Architecture, Mapping[str, Tensor]]:
    """Reads a file of torchvision's weights and tells from its tensors which detector they are for.

    Raises WeightsError where it cannot be read or holds something else.
    """
    state = read_tensor_file(path, "a file of torchvision's weights")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is not a file of torchvision's weights: it is no table of tensors alone")
    shapes = _shapes(state)
    closest, most = ARCHITECTURES[0], -1
    for architecture in ARCHITECTURES:
        with torch.device("meta"):
            own = _shapes(make_model(architecture).state_dict())
        if own == shapes:
            return architecture, state
        if (shared := (own & shapes).total()) > most:
            closest, most = architecture, shared
    raise WeightsError(
        f"{path} holds {shapes.total()} tensors that fit none of torchvision's COCO detectors; closest is {closest}, "
        f"which shares {most}: known are {', '.join(ARCHITECTURES)}"
    )


def _shapes(state: Mapping[str, Tensor]) -> Counter[tuple[str, torch.Size]]:
    """Counts tensors by the last part of their names and their shapes.

    Older files name some layers otherwise, which torchvision's modules translate when they load them.
    """
    return Counter((name.rpartition(".")[2], value.shape) for name, value in state.items())


def import_torchvision(state: Mapping[str, Tensor], config: TorchvisionConfig) -> TorchvisionDetector:
    """Builds a detector with published weights, in evaluation mode. Raises WeightsError where they do not fit it."""
    detector = TorchvisionDetector(config)
    try:
        detector.model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"the weights do not fit {config.architecture}: {error}") from error
    return detector.eval()

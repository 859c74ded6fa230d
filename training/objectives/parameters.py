"""Learning rates by part of a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


def rated_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], *, backbone: float, text: float, rest: float, freeze_backbone: bool
) -> list[dict[str, Any]]:
    """Parameter groups for the optimiser: of the backbone, of classifiers that start from text, and all others.

    With `freeze_backbone` the backbone's parameters stop taking gradients and are left out.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters:
        of_backbone = "backbone." in name
        if of_backbone and freeze_backbone:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            rate = backbone if of_backbone else text if name.endswith(".text") else rest
            groups.setdefault(rate, []).append(parameter)
    return [{"params": members, "lr": rate} for rate, members in groups.items()]

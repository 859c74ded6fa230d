"""Random pairs for tests of the relation networks, and their export to ONNX."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from models.graph.vocabulary import ACTION_GENOME
from models.networks.relations.config import RelationConfig
from models.networks.relations.network import RelationNetwork
from models.networks.relations.pairs import Pairs

GROUPS = ACTION_GENOME.group_names
OBJECTS = ACTION_GENOME.objects

Module = TypeVar("Module", bound=nn.Module)

SIZES = {group.name: len(group.predicates) for group in ACTION_GENOME.groups}
"""Predicates of each group."""

SMALL: dict[str, Any] = {
    "feature_width": 6, "union_channels": 5, "union_size": 3, "clip_width": 7,
    "visual_width": 8, "word_width": 4, "heads": 4, "feed_forward": 24,
}  # fmt: skip
"""Sizes at which a network runs in milliseconds."""


def random_boxes(*shape: int) -> Tensor:
    corner = torch.rand(*shape, 2) * 0.6
    return torch.cat((corner, corner + 0.1 + torch.rand(*shape, 2) * 0.3), -1)


def random_pairs(
    config: RelationConfig, batch: int, time: int, *, slots: int = 4, seed: int = 0, filled: float = 0.6
) -> Pairs:
    """One person a frame. Three classes only, so that a frame may hold one of them twice; a share of `filled` of the
    slots hold pairs, and the others hold leftovers.
    """
    torch.manual_seed(seed)
    width, size = config.feature_width, config.union_size
    labels = torch.randint(1, 4, (batch, time, slots))
    of_slots = (-1, -1, slots, -1)
    return Pairs(
        mask=torch.rand(batch, time, slots) < filled,
        subject_boxes=random_boxes(batch, time)[:, :, None].expand(of_slots).contiguous(),
        subject_scores=torch.rand(batch, time)[:, :, None].expand(of_slots[:-1]).contiguous(),
        object_boxes=random_boxes(batch, time, slots),
        object_scores=nn.functional.one_hot(labels, len(OBJECTS)).float(),
        subject_features=torch.randn(batch, time, width)[:, :, None].expand(of_slots).contiguous(),
        object_features=torch.randn(batch, time, slots, width),
        union_features=torch.randn(batch, time, slots, config.union_channels, size, size),
        timestamps=torch.arange(time).float().expand(batch, -1).contiguous(),
        crop_features=torch.randn(batch, time, slots, config.clip_width) if config.clip_features else None,
    )


def pairs_with(labels: Tensor, mask: Tensor, subject_boxes: Tensor | None = None) -> Pairs:
    """Pairs of which only classes and persons matter; of one person a frame, who jumps about, unless told otherwise."""
    of_slots = labels.shape
    if subject_boxes is None:
        subject_boxes = random_boxes(*of_slots[:2])[:, :, None].expand(*of_slots, 4)
    nothing = torch.zeros(*of_slots, 1)
    return Pairs(
        mask=mask,
        subject_boxes=subject_boxes,
        subject_scores=torch.ones(of_slots),
        object_boxes=random_boxes(*of_slots),
        object_scores=nn.functional.one_hot(labels, len(OBJECTS)).float(),
        subject_features=nothing,
        object_features=nothing,
        union_features=nothing[..., None, None],
        timestamps=torch.arange(of_slots[1]).float().expand(of_slots[0], -1),
    )


def with_other_leftovers(pairs: Pairs) -> Pairs:
    """The same pairs, but other content where there are none."""
    torch.manual_seed(99)
    changed = {}
    for name in (
        "subject_boxes",
        "subject_features",
        "object_boxes",
        "object_scores",
        "object_features",
        "union_features",
        "crop_features",
    ):
        value = getattr(pairs, name)
        if value is not None:
            real = pairs.mask.reshape(*pairs.mask.shape, *[1] * (value.dim() - 3))
            changed[name] = torch.where(real, value, torch.rand_like(value) * 3)
    return replace(pairs, **changed)


def with_more_slots(pairs: Pairs, extra: int) -> Pairs:
    """The same pairs, with empty slots after those of each frame."""
    grown = {
        field.name: torch.cat((value, torch.zeros_like(value[:, :, :1]).expand(-1, -1, extra, *value.shape[3:])), 2)
        for field in fields(pairs)
        if (value := getattr(pairs, field.name)) is not None and field.name != "timestamps"
    }
    return replace(pairs, **grown)


def lively(module: Module, seed: int = 0) -> Module:
    """In evaluation mode, with random weights: biases and norms start at 0 and 1, where a swap would not show."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    return module.eval()


class _Exported(nn.Module):
    def __init__(self, network: RelationNetwork, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        relations = self.network(Pairs(**dict(zip(self.names, tensors, strict=True))))
        return (relations.decoded, *(relations.probabilities[group] for group in GROUPS))


def largest_export_difference(network: RelationNetwork, folder: Path, shapes: list[tuple[int, int]]) -> float:
    """Exports a network with dynamic B and T, runs it in ONNX Runtime on random pairs of other shapes, and returns the
    largest difference from torch, as a share of the output's range.
    """
    example = random_pairs(network.config, 2, 3)
    names = [field.name for field in fields(example) if getattr(example, field.name) is not None]
    exported = _Exported(network, names).eval()
    dynamic = {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("time", min=1, max=512)}
    path = folder / "network.onnx"
    with warnings.catch_warnings():
        # The exporter warns of its own dependencies' deprecations.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            exported,
            tuple(getattr(example, name) for name in names),
            dynamic_shapes=(tuple(dynamic for _ in names),),
            input_names=names,
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {value.name for value in session.get_inputs()}
    differences = []
    for seed, (batch, time) in enumerate(shapes):
        pairs = random_pairs(network.config, batch, time, seed=seed)
        tensors = {name: getattr(pairs, name) for name in names}
        with torch.inference_mode():
            wanted = exported(*tensors.values())
        given = session.run(None, {name: tensor.numpy() for name, tensor in tensors.items() if name in taken})
        for ours, theirs in zip(wanted, given, strict=True):
            assert ours.shape == theirs.shape
            differences.append(np.abs(ours.numpy() - theirs).max() / (ours.max() - ours.min()).clamp(min=1e-3).item())
    return float(max(differences))

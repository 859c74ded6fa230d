"""EfficientDet-Lite0 from a published TensorFlow Lite file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

from models.errors import WeightsError
from models.networks.detectors import coco
from models.networks.detectors.efficientdet import (
    ANCHORS,
    LEVELS,
    EfficientDet,
    EfficientDetConfig,
    Head,
    PyramidCell,
)
from models.networks.detectors.mobile_blocks import SameConv
from models.networks.published.kernels import copy_kernels
from models.networks.tflite import TfliteGraph, TfliteModel

Kind = TypeVar("Kind", bound=nn.Module)

_SIDE = 320
"""Height and width in pixels of the published file's input."""
_COLUMNS = 90
"""Classes of the published file, ten of which COCO has no name for."""
_TOLERANCE = 1e-3
"""Most that deltas and scores may differ from the file's graph, on floats throughout."""


def import_efficientdet(model: TfliteModel, config: EfficientDetConfig, name: str) -> EfficientDet:
    """Builds the network with a file's weights and checks that it computes what the file's graph does.

    Raises WeightsError where the file holds another network.

    name: what errors call the file.
    """
    whole = EfficientDet(EfficientDetConfig(frame_height=_SIDE, frame_width=_SIDE))
    published = whole.class_head.predict.mix
    with torch.no_grad():
        # The file's classes with their gaps first; the gaps' columns go once all is read.
        wide = SameConv(published.in_channels, _COLUMNS * ANCHORS)
        whole.class_head.predict.mix = wide
        copy_kernels(model, _layers(whole), name)
        columns = torch.tensor([number - 1 for number in coco.IDS])
        whole.class_head.predict.mix = published
        for own, read in zip(published.parameters(), wide.parameters(), strict=True):
            own.copy_(read.unflatten(0, (ANCHORS, _COLUMNS))[:, columns].flatten(0, 1))
    _compare(whole.eval(), TfliteGraph(model).eval(), columns, name)
    network = EfficientDet(config)
    network.load_state_dict(whole.state_dict())
    return network.eval()


@torch.inference_mode()
def _compare(network: EfficientDet, graph: TfliteGraph, columns: torch.Tensor, name: str) -> None:
    images = torch.rand(1, _SIDE, _SIDE, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    deltas, logits = network.score_anchors(images.permute(0, 3, 1, 2))
    given = {tuple(output.shape[2:]): output for output in graph(images)}
    if set(given) != {(_COLUMNS,), (4,)}:
        raise WeightsError(f"{name} gives {sorted(given)} columns an anchor, not 4 and {_COLUMNS}")
    difference = max(
        float((deltas - given[4,]).abs().max()), float((logits.sigmoid() - given[_COLUMNS,][..., columns]).abs().max())
    )
    if difference > _TOLERANCE:
        raise WeightsError(
            f"{name} computes something else than EfficientDet-Lite0: outputs differ by {difference:.3g}"
        )


def _layers(network: EfficientDet) -> Iterator[SameConv]:
    """The convolutions in the order of the published files."""
    yield from _within(network.backbone, SameConv)
    pyramid = network.pyramid
    third, fourth, fifth = _within(pyramid.project, SameConv)
    fourth_again, fifth_again = _within(pyramid.project_again, SameConv)
    yield from (fifth, fifth_again, fourth, fourth_again, third, pyramid.extend)
    *cells, last = _within(pyramid.cells, PyramidCell)
    for cell in cells:
        yield from (*_within(cell.down, SameConv), *_within(cell.up, SameConv))
    yield from _within(last.down, SameConv)
    # The heads run on each level as soon as the last cell has made it.
    for level in range(LEVELS):
        if level:
            yield from _within(last.up[level - 1], SameConv)
        yield from _head_layers(network.box_head, level)
        yield from _head_layers(network.class_head, level)


def _head_layers(head: Head, level: int) -> Iterator[SameConv]:
    mixes = _within(head.mix, nn.ModuleList)[level]
    for layers in zip(_within(head.filters, SameConv), _within(mixes, SameConv), strict=True):
        yield from layers
    yield from _within(head.predict, SameConv)


def _within(module: nn.Module, kind: type[Kind]) -> list[Kind]:
    """Returns what a module holds of a kind, itself left out, in the order that it was built in."""
    return [each for each in module.modules() if isinstance(each, kind) and each is not module]

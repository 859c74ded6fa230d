"""Writes the files that `vsg import` reads, from networks with weights of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from models.networks.detectors import coco
from models.networks.detectors.efficientdet import (
    ANCHORS,
    LEVELS,
    EfficientDet,
    Fusion,
    Head,
    PyramidCell,
)
from models.networks.detectors.mobile_blocks import InvertedResidual
from models.networks.pose import KEYPOINTS, PUBLISHED_POINTS, SIDE, VALUES, LandmarkNetwork, ResidualBlock
from models.networks.pose import InvertedResidual as PoseBlock
from tests.support.tflite import NONE, RELU6, VALID, TfliteWriter

_COLUMNS = 90
Kind = TypeVar("Kind", bound=nn.Module)


def enliven(network: nn.Module, seed: int = 0) -> None:
    """Gives convolutions random weights that keep the scale of what they compute, and random biases."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                fan = layer.weight[0].numel()
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=random) * (1.6 / fan) ** 0.5)
                assert layer.bias is not None
                layer.bias.copy_(torch.randn(layer.bias.shape, generator=random) * 0.1)


def efficientdet_file(network: EfficientDet) -> bytes:
    """Writes a network of 320x320 as the published file of EfficientDet-Lite0 is, in float32."""
    writer = TfliteWriter()
    images = writer.tensor((1, 320, 320, 3))
    maps = _backbone(writer, network, images)
    pyramid = network.pyramid
    third, fourth, fifth = _held(pyramid.project, nn.Conv2d)
    fourth_again, fifth_again = _held(pyramid.project_again, nn.Conv2d)
    down5, up5 = writer.conv(maps[2], fifth), writer.conv(maps[2], fifth_again)
    down4, up4 = writer.conv(maps[1], fourth), writer.conv(maps[1], fourth_again)
    down3 = writer.conv(maps[0], third)
    level6 = writer.pool(writer.conv(maps[2], pyramid.extend), 3, 2)
    levels = [down3, down4, down5, level6, writer.pool(level6, 3, 2)]
    again = [down3, up4, up5, *levels[3:]]
    *cells, last = _held(pyramid.cells, PyramidCell)
    for cell in cells:
        levels = again = _cell(writer, cell, levels, again)
    wide_head = _with_gaps(network.class_head)
    boxes: list[int] = []
    scores: list[int] = []

    def predict(level: int, values: int) -> None:
        for head, rows, columns in ((network.box_head, boxes, 4), (wide_head, scores, _COLUMNS)):
            rows.append(_head(writer, head, level, values, columns))

    _cell(writer, last, levels, again, predict)
    outputs = [writer.run("LOGISTIC", [joined := writer.join(scores, 1)], writer.shape(joined)), writer.join(boxes, 1)]
    return writer.file([images], outputs)


def _backbone(writer: TfliteWriter, network: EfficientDet, images: int) -> list[int]:
    values, maps = writer.conv(images, network.backbone.stem, RELU6), []
    for number, stage in enumerate(network.backbone.stages):
        for block in stage.children():
            assert isinstance(block, InvertedResidual)
            wide = values if block.expand is None else writer.conv(values, block.expand, RELU6)
            projected = writer.conv(writer.conv(wide, block.filter, RELU6), block.project)
            values = writer.add(projected, values) if block.added else projected
        if number in (2, 4, 6):
            maps.append(values)
    return maps


def _cell(
    writer: TfliteWriter,
    cell: PyramidCell,
    levels: list[int],
    again: list[int],
    done: Callable[[int, int], None] | None = None,
) -> list[int]:
    def fuse(node: Fusion, fused: int) -> int:
        return writer.conv(writer.conv(fused, node.conv.filter), node.conv.mix)

    nodes_up = _held(cell.up, Fusion)
    downwards = [levels[-1]]
    for node, level in zip(_held(cell.down, Fusion), reversed(levels[:-1]), strict=True):
        coarser = writer.nearest(downwards[0], like=level)
        downwards.insert(0, fuse(node, writer.add(level, coarser, RELU6)))
    upwards = [downwards[0]]
    for number in range(LEVELS):
        if number:
            finer, own = writer.pool(upwards[-1], 3, 2), again[number]
            own = writer.add(own, downwards[number]) if number < LEVELS - 1 else own
            upwards.append(fuse(nodes_up[number - 1], writer.add(own, finer, RELU6)))
        if done is not None:
            done(number, upwards[-1])
    return upwards


def _head(writer: TfliteWriter, head: Head, level: int, values: int, columns: int) -> int:
    mixes = _held(_held(head.mix, nn.ModuleList)[level], nn.Conv2d)
    for depthwise, mix in zip(_held(head.filters, nn.Conv2d), mixes, strict=True):
        values = writer.conv(writer.conv(values, depthwise), mix, RELU6)
    values = writer.conv(writer.conv(values, head.predict.filter), head.predict.mix)
    return writer.reshape(values, (1, int(np.prod(writer.shape(values))) // columns, columns))


def _held(module: nn.Module, kind: type[Kind]) -> list[Kind]:
    return [each for each in module.children() if isinstance(each, kind)]


def _with_gaps(head: Head) -> Head:
    """Returns a head whose classes are COCO's numbers 1 to 90, ten of which have no name."""
    wide = Head(_COLUMNS * ANCHORS)
    wide.filters, wide.mix, wide.predict.filter = head.filters, head.mix, head.predict.filter
    columns = [number - 1 for number in coco.IDS]
    with torch.no_grad():
        for own, given in zip(wide.predict.mix.parameters(), head.predict.mix.parameters(), strict=True):
            own.unflatten(0, (ANCHORS, _COLUMNS))[:, columns] = given.unflatten(0, (ANCHORS, len(columns)))
    return wide


def pose_file(network: LandmarkNetwork) -> bytes:
    """Writes a network as the published file of BlazePose is, in float32, with one more output as it has."""
    writer = TfliteWriter()
    crops = writer.tensor((1, SIDE, SIDE, 3))
    values = writer.conv(writer.pad(crops, 1), network.stem, RELU6, VALID)
    values = writer.conv(writer.conv(values, network.first_filter, RELU6), network.first_project)
    for block in network.body:
        assert isinstance(block, PoseBlock)
        wide = writer.conv(values, block.expand, RELU6)
        if block.filter.stride[0] == 2:
            wide = writer.conv(writer.pad(wide, block.filter.kernel_size[0] // 2), block.filter, RELU6, VALID)
        else:
            wide = writer.conv(wide, block.filter, RELU6)
        projected = writer.conv(wide, block.project)
        values = writer.add(projected, values) if block.added else projected
    values = writer.conv(writer.conv(values, network.widen, RELU6), network.widest_filter, RELU6)
    unread = writer.conv(values, nn.Conv2d(864, 1, 1))
    values = writer.conv(writer.conv(values, network.head_filter, RELU6), network.head_project, RELU6)
    for block in network.head:
        assert isinstance(block, ResidualBlock)
        mixed = writer.conv(writer.conv(values, block.filter, RELU6), block.mix)
        values = writer.add(values if block.stride == 1 else writer.pool(values, 2, 2, VALID), mixed, RELU6)
    points = nn.Conv2d(288, PUBLISHED_POINTS * VALUES, 2)
    with torch.no_grad():
        for own, given in zip(points.parameters(), network.points.parameters(), strict=True):
            own[: len(KEYPOINTS) * VALUES] = given
    flat = writer.reshape(writer.conv(values, points, NONE, VALID), (1, PUBLISHED_POINTS * VALUES))
    presence = writer.conv(values, network.presence, NONE, VALID)
    confidence = writer.reshape(writer.run("LOGISTIC", [presence], (1, 1, 1, 1)), (1, 1))
    return writer.file([crops], [flat, confidence, unread])

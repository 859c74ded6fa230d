"""Detectors in ONNX that find rectangles by their colour, with the inputs and outputs of detectors in the wild."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torchvision.ops import box_convert

SIZE = 64
NAMES = ("person", "cup", "couch")
"""What is red, what is green, what is blue."""
COLOURS = ((220, 30, 30), (30, 220, 30), (30, 30, 220))
SCORES = (0.9, 0.8, 0.7)
Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels."""


def paint(boxes: dict[str, Box], across: int = 1, down: int = 1) -> NDArray[np.uint8]:
    """A frame (SIZE, SIZE, 3) with a rectangle of each named class on grey, stretched `across` and `down` times."""
    frame = np.full((SIZE, SIZE, 3), 90, np.uint8)
    for name, (left, top, right, bottom) in boxes.items():
        frame[top:bottom, left:right] = COLOURS[NAMES.index(name)]
    return frame.repeat(down, 0).repeat(across, 1)


class Colours(nn.Module):
    """Finds the bounding box of each colour; the pictures (N, 3, H, W) are RGB with white at 1."""

    def find(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, 3, 4) in pixels, corners, and scores (N, 3), 0.01 for a colour that is not there."""
        others = torch.stack([pictures[:, [1, 2]].amax(1), pictures[:, [0, 2]].amax(1), pictures[:, [0, 1]].amax(1)], 1)
        there = (pictures - others > 0.3).float()  # (N, 3, H, W)
        edges = []
        for axis in (2, 3):
            line = there.amax(axis)  # columns, then rows
            length = line.shape[-1]
            edges.append((line.argmax(-1).float(), length - line.flip(-1).argmax(-1).float()))
        (left, right), (top, bottom) = edges
        found = there.amax((2, 3))
        scores = torch.where(found > 0, torch.tensor(SCORES), torch.tensor(0.01))
        return torch.stack((left, top, right, bottom), -1) * found[..., None], scores

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        boxes, scores = self.find(pictures)
        return boxes, scores, torch.arange(len(NAMES)).expand(scores.shape)


class Torchvision(Colours):
    """As torchvision's detectors export: one picture (3, H, W), a row for each box that is found, labels from 1."""

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        boxes, scores = self.find(pictures[None])
        labels = torch.arange(1, 1 + len(NAMES))
        found = scores[0] > 0.05
        return boxes[0][found], labels[found], scores[0][found]


class Detr(Colours):
    """As DETR exports: pictures and a mask of what is picture; boxes as fractions, logits with one for no object."""

    def forward(self, pictures: Tensor, mask: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        boxes, scores = self.find(pictures * mask[:, None])
        own = torch.eye(len(NAMES)) * scores[..., None] + 1e-4
        fractions = box_convert(boxes, "xyxy", "cxcywh") / torch.tensor([pictures.shape[-1], pictures.shape[-2]] * 2)
        return torch.cat((own, 1 - own.sum(-1, keepdim=True)), -1).log(), fractions


class Yolox(Colours):
    """As YOLOX exports: bytes in BGR, a cell for each colour at the start of the finest level, scores as they are."""

    def __init__(self, *, decoded: bool) -> None:
        super().__init__()
        self.decoded = decoded

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        boxes, scores = self.find(pictures.flip(1) / 255)
        boxes = box_convert(boxes, "xyxy", "cxcywh")
        boxes = torch.cat((boxes[..., :2], boxes[..., 2:].clamp(min=1.0)), -1)
        height, width = pictures.shape[-2:]
        cells = [(x * s, y * s, s) for s in (8, 16, 32) for y in range(height // s) for x in range(width // s)]
        corners = torch.tensor([cell[:2] for cell in cells], dtype=torch.float32)
        strides = torch.tensor([[float(cell[2])] for cell in cells])
        rest = torch.cat((corners, strides.expand(-1, 2)), -1)[len(NAMES) :]
        boxes = torch.cat((boxes, rest.expand(boxes.shape[0], -1, -1)), 1)  # (N, A, 4)
        if not self.decoded:
            boxes = torch.cat(((boxes[..., :2] - corners) / strides, (boxes[..., 2:] / strides).log()), -1)
        classes = torch.zeros(len(cells), len(NAMES))
        classes[: len(NAMES)] = torch.eye(len(NAMES))
        nothing = torch.zeros(len(cells) - len(NAMES)).expand(scores.shape[0], -1)
        objectness = torch.cat((scores, nothing), 1)[..., None]
        return (torch.cat((boxes, objectness, classes.expand(scores.shape[0], -1, -1)), -1),)


def write_detector(
    path: Path,
    module: nn.Module,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    *,
    any_batch: bool = False,
    opset: int = 18,
    names: str | None = str(dict(enumerate(NAMES))),
) -> Path:
    """Exports a detector for pictures of SIZE pixels; `names` goes into its metadata."""
    picture = torch.rand(1, 3, SIZE, SIZE) if not isinstance(module, Torchvision) else torch.rand(3, SIZE, SIZE)
    samples: tuple[Any, ...] = (picture, torch.ones(1, SIZE, SIZE, dtype=torch.int64))[: len(inputs)]
    shapes = None
    if any_batch:
        samples = tuple(torch.cat((sample, sample)) for sample in samples)
        shapes = tuple({0: torch.export.Dim("batch", min=1, max=64)} for _ in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), samples, input_names=list(inputs), output_names=list(outputs), dynamic_shapes=shapes,
            opset_version=opset, dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False)
    if names is not None:
        model = onnx.load(str(path))
        model.metadata_props.add(key="names", value=names)
        onnx.save(model, str(path))
    return path


def write_fixed_detector(
    path: Path,
    inputs: dict[str, tuple[int, tuple[int | str, ...]]],
    outputs: dict[str, NDArray[Any]],
    *,
    opset: int = 18,
    **metadata: str,
) -> Path:
    """Writes a model with any inputs (type of ONNX and shape) that gives the same outputs for all pictures."""
    nodes, constants, described = [], [], []
    for name, array in outputs.items():
        constants.append(numpy_helper.from_array(array, f"{name}_value"))
        nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        described.append(helper.make_tensor_value_info(name, kind, array.shape))
    taken = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    graph = helper.make_graph(nodes, "fixed", taken, described, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path

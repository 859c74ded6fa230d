"""`vsg::suppress` as ONNX Runtime runs it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from export.onnx import OPSET, _suppress
from models.engines.onnxruntime import open_session
from models.networks.detectors.suppression import suppress


class _Suppression(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        return suppress(boxes, scores, 0.5, 0.25)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suppression") / "suppression.onnx"
    groups = torch.export.Dim("groups", min=1, max=1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Suppression(), (torch.rand(3, 6, 4), torch.rand(3, 6)), dynamic_shapes=({0: groups}, {0: groups}),
            input_names=["boxes", "scores"], opset_version=OPSET, dynamo=True, verbose=False,
            custom_translation_table={torch.ops.vsg.suppress.default: _suppress},
        )  # fmt: skip
    assert program is not None
    program.save(str(path))
    return path


@pytest.mark.parametrize("case", ["crowded", "apart", "nothing", "ties", "at the limits", "without area"])
def test_suppression_keeps_the_same_boxes_in_onnx_runtime_and_torch(graph: Path, case: str) -> None:
    random = torch.Generator().manual_seed(0)
    corner = torch.rand(40, 6, 2, generator=random) * 10
    boxes = torch.cat((corner, corner + 5 + torch.rand(40, 6, 2, generator=random) * 10), -1)
    scores = torch.rand(40, 6, generator=random)
    match case:
        case "apart":
            boxes = boxes + torch.arange(6)[None, :, None] * 50
        case "nothing":
            scores = scores * 0.25
        case "ties":
            scores = (scores * 3).round() / 3
        case "at the limits":
            boxes = torch.tensor(((0.0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 5.1))).repeat(1, 2, 1)
            scores = torch.tensor(((0.9, 0.8, 0.7, 0.25, 0.2500001, 0.5),))
        case "without area":
            boxes = torch.cat((boxes[..., :2], boxes[..., :2]), -1)
    wanted = suppress(boxes, scores, 0.5, 0.25)
    session = open_session(graph)
    (given,) = session.run(None, {"boxes": boxes.numpy(), "scores": scores.numpy()})
    assert given.dtype == bool
    assert given.tolist() == wanted.tolist()
    candidates = (scores > 0.25).sum()
    some = {"crowded": wanted.sum() < candidates, "apart": wanted.sum() == candidates, "nothing": not wanted.any()}
    assert some.get(case, True)

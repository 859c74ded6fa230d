"""The contracts of detectors' outputs, told apart by names, types and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export.detectors.contracts import Source, recognise
from export.errors import ExportError

SIZE = (64, 96)
CELLS = 8 * 12 + 4 * 6 + 2 * 3


def floats(*shape: int) -> NDArray[Any]:
    return np.zeros(shape, np.float32)


def numbers(*shape: int) -> NDArray[Any]:
    return np.zeros(shape, np.int64)


IN_THE_WILD: dict[str, tuple[dict[str, NDArray[Any]], str, dict[str, Source]]] = {
    "torchvision": (
        {"boxes": floats(7, 4), "labels": numbers(7), "scores": floats(7)},
        "rows",
        {"box": Source("boxes"), "score": Source("scores"), "label": Source("labels")},
    ),
    "torchvision without names": (
        {"1770": floats(0, 4), "1772": numbers(0), "1771": floats(0)},
        "rows",
        {"box": Source("1770"), "score": Source("1771"), "label": Source("1772")},
    ),
    "RT-DETR and D-FINE for deployment": (
        {"labels": numbers(1, 300), "boxes": floats(1, 300, 4), "scores": floats(1, 300)},
        "rows",
        {"box": Source("boxes"), "score": Source("scores"), "label": Source("labels")},
    ),
    "TensorFlow's detection API": (
        {
            "detection_boxes": floats(1, 100, 4),
            "detection_classes": floats(1, 100),
            "detection_scores": floats(1, 100),
            "num_detections": floats(1),
        },
        "rows",
        {"box": Source("detection_boxes"), "score": Source("detection_scores"), "label": Source("detection_classes")},
    ),
    "mmdeploy": (
        {"dets": floats(1, 100, 5), "labels": numbers(1, 100)},
        "rows",
        {"box": Source("dets", (0, 1, 2, 3)), "score": Source("dets", (4,)), "label": Source("labels")},
    ),
    "six columns": (
        {"output0": floats(1, 300, 6)},
        "rows",
        {"box": Source("output0", (0, 1, 2, 3)), "score": Source("output0", (4,)), "label": Source("output0", (5,))},
    ),
    "DETR of transformers": (
        {"logits": floats(1, 100, 92), "pred_boxes": floats(1, 100, 4), "last_hidden_state": floats(1, 100, 256)},
        "queries",
        {"box": Source("pred_boxes"), "score": Source("logits")},
    ),
    "RF-DETR": (
        {"dets": floats(1, 300, 4), "labels": floats(1, 300, 91)},
        "queries",
        {"box": Source("dets"), "score": Source("labels")},
    ),
    "queries with four classes": (
        {"pred_logits": floats(1, 50, 4), "pred_boxes": floats(1, 50, 4)},
        "queries",
        {"box": Source("pred_boxes"), "score": Source("pred_logits")},
    ),
    "YOLOX": ({"output": floats(1, CELLS, 85)}, "grid", {"grid": Source("output")}),
    "YOLOX of one class": ({"output": floats(1, CELLS, 6)}, "grid", {"grid": Source("output")}),
}


@pytest.mark.parametrize("kind", IN_THE_WILD)
def test_outputs_of_detectors_in_the_wild_are_recognised(kind: str) -> None:
    outputs, contract, sources = IN_THE_WILD[kind]
    assert recognise(outputs, SIZE) == (contract, sources)
    backwards = dict(reversed(outputs.items()))
    assert recognise(backwards, SIZE) == (contract, sources), "the order of the outputs does not matter"


def test_columns_of_a_single_output_can_be_named() -> None:
    columns = ("other", "box", "box", "box", "box", "label", "score")
    contract, sources = recognise({"output": floats(9, 7)}, SIZE, columns=columns)
    assert (contract, sources["score"], sources["label"]) == ("rows", Source("output", (6,)), Source("output", (5,)))


def test_a_source_picks_columns() -> None:
    rows = np.arange(12.0).reshape(1, 2, 6)
    assert Source("x", (4,)).of({"x": rows}).tolist() == [[4, 10]]
    assert Source("x", (0, 1)).of({"x": rows}).tolist() == [[[0, 1], [6, 7]]]


@pytest.mark.parametrize(
    "outputs",
    [
        {"features": floats(1, 256, 8, 8)},
        {"output0": floats(1, 84, CELLS)},
        {"boxes": floats(1, 100, 4)},
        {"boxes": floats(1, 100, 4), "scores": floats(1, 90)},
        {},
    ],
)
def test_outputs_that_fit_nothing_are_listed_beside_the_contracts(outputs: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(ExportError) as caught:
        recognise(outputs, SIZE)
    message = str(caught.value)
    assert "96x64 pixels keep no contract" in message
    assert all(f"{name}: float32 {list(array.shape)}" in message for name, array in outputs.items())
    assert all(name in message for name in ("rows: ", "queries: ", "grid: ")), "all three contracts are explained"


def test_a_contract_that_is_asked_for_must_be_kept() -> None:
    outputs = IN_THE_WILD["YOLOX"][0]
    with pytest.raises(ExportError, match="not the contract 'queries'"):
        recognise(outputs, SIZE, "queries")
    assert recognise(outputs, SIZE, "grid")[0] == "grid"

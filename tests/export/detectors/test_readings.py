"""Reading of boxes and class scores from what detectors give."""

from __future__ import annotations

import pytest
import torch

from export.detectors.readings import BoxConvention, BoxFormat, GridReading, QueryReading, RowReading, cells_of

FRACTIONS = BoxConvention("xyxy", 1, 1)


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        ("xyxy", (20, 10, 60, 30)),
        ("yxyx", (10, 20, 30, 60)),
        ("xywh", (20, 10, 40, 20)),
        ("cxcywh", (40, 20, 40, 20)),
    ],
)
def test_boxes_become_corners_as_fractions(form: BoxFormat, numbers: tuple[float, ...]) -> None:
    boxes = BoxConvention(form, 200, 100).as_fractions(torch.tensor([numbers], dtype=torch.float32))
    assert boxes[0].tolist() == pytest.approx([0.1, 0.1, 0.3, 0.3])


def test_a_row_has_the_score_of_its_class() -> None:
    reading = RowReading(FRACTIONS, classes=3, first_label=1)
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    _, by_class = reading(torch.zeros(1, 4, 4), scores, torch.tensor([[1, 3, 0, 4]]))
    wanted = torch.tensor([[[0.9, 0, 0], [0, 0, 0.8], [0, 0, 0], [0, 0, 0]]])
    assert torch.equal(by_class, wanted), "numbers beyond the classes count for nothing"


@pytest.mark.parametrize("activation", ["none", "sigmoid", "softmax"])
def test_queries_lose_the_column_of_no_object(activation: str) -> None:
    logits = torch.tensor([[[0.1, 0.2, 0.7]]]) if activation == "none" else torch.tensor([[[1.0, -1.0, 2.0]]])
    wanted = {"none": logits, "sigmoid": logits.sigmoid(), "softmax": logits.softmax(-1)}[activation]
    _, scores = QueryReading(FRACTIONS, activation, classes=2)(torch.zeros(1, 1, 4), logits)  # type: ignore[arg-type]
    assert torch.equal(scores, wanted[..., :2])


def test_a_grid_is_decoded_cell_by_cell() -> None:
    reading = GridReading((64, 96), decoded=False, activation="none")
    grid = torch.zeros(1, cells_of((64, 96)), 7)
    second_row = 12  # stride 8: cell (0, 1)
    coarse = 8 * 12 + 4 * 6 + 1  # stride 32: cell (1, 0)
    grid[0, second_row] = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.5, 0.8, 0.2])
    grid[0, coarse, :4] = torch.tensor([0.25, 0.5, torch.log(torch.tensor(1.5)), 0.0])
    boxes, scores = reading(grid)
    pixels = boxes[0] * torch.tensor([96, 64, 96, 64])
    assert pixels[second_row].tolist() == pytest.approx([0, 8, 8, 16], abs=1e-5)
    assert pixels[coarse].tolist() == pytest.approx([40 - 24, 0, 40 + 24, 32], abs=1e-5)
    assert scores[0, second_row].tolist() == pytest.approx([0.4, 0.1]), "objectness times class"


def test_a_decoded_grid_is_in_pixels() -> None:
    reading = GridReading((64, 64), decoded=True, activation="sigmoid")
    grid = torch.zeros(1, cells_of((64, 64)), 6)
    grid[0, 3, :4] = torch.tensor([32.0, 16.0, 16.0, 32.0])
    boxes, scores = reading(grid)
    assert boxes[0, 3].tolist() == pytest.approx([0.375, 0.0, 0.625, 0.5])
    assert scores[0, 3].tolist() == pytest.approx([0.25])

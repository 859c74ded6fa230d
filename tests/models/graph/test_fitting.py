"""Pictures fill frames of another shape."""

from __future__ import annotations

import pytest

from models.graph.fitting import filled, spanned


@pytest.mark.parametrize(
    ("picture", "fit", "size"),
    [
        ((1920, 1080), "stretch", (448, 448)),
        ((1920, 1080), "pad", (448, 252)),
        ((1080, 1920), "pad", (252, 448)),
        ((64, 64), "pad", (448, 448)),
        ((20_000, 3), "pad", (448, 1)),
    ],
)
def test_a_padded_picture_keeps_its_shape(picture: tuple[int, int], fit: str, size: tuple[int, int]) -> None:
    assert filled((448, 448), picture, fit) == size


def test_the_whole_frame_is_larger_than_the_picture_where_it_is_padded() -> None:
    assert spanned((448, 448), (1920, 1080), "pad") == pytest.approx((1920, 1920))
    assert spanned((448, 448), (1920, 1080), "stretch") == (1920, 1080)

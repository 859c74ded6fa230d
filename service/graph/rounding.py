"""How numbers of the graph are rounded: float32 noise would double the size of the JSON and say nothing."""

import numpy as np
from numpy.typing import NDArray

SCORE_DECIMALS = 4
PIXEL_DECIMALS = 1


def rounded(values: NDArray[np.floating], decimals: int = SCORE_DECIMALS) -> list[float]:
    """Plain floats of a (N,) array."""
    result: list[float] = np.round(values.astype(np.float64), decimals).tolist()
    return result


def rounded_boxes(boxes: NDArray[np.float64]) -> list[tuple[float, float, float, float]]:
    """Plain tuples of (N, 4) boxes in pixels."""
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in np.round(boxes, PIXEL_DECIMALS).tolist()]

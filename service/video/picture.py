"""How a stored picture is displayed: turned, mirrored, and with pixels that are square. Runs in the decoder process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

# FFmpeg attaches more kinds of side data than PyAV can name, and where there is one of them PyAV lists none at all.
_UNNAMED = range(len(Type), 2 * len(Type))


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways in which a stored picture is turned and mirrored for display.

    swapped: rows become columns; this comes first.
    across: left and right change places.
    down: top and bottom change places.
    """

    swapped: bool = False
    across: bool = False
    down: bool = False

    @classmethod
    def of_matrix(cls, a: float, b: float, c: float, d: float) -> Orientation:
        """Returns the way that is nearest to a display matrix.

        The matrix takes the stored point (x, y) to the displayed point (a x + c y, b x + d y). Translation, scale and
        shear do not count: a player shows the whole picture, upright, in a frame of its own.
        """
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(across=a < 0, down=d < 0)
        return cls(swapped=True, across=c < 0, down=b < 0)

    @classmethod
    def of_frame(cls, frame: Any) -> Orientation:
        """Returns the way that the display matrix of a PyAV frame asks for."""
        matrix = _display_matrix(frame)
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        return cls.of_matrix(a, b, c, d)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Returns the displayed width and height of a stored picture, or the stored ones of a displayed picture."""
        return (height, width) if self.swapped else (width, height)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns a stored picture (height, width, 3) as it is displayed: a view of it."""
        if self.swapped:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.down else 1, :: -1 if self.across else 1]


def _display_matrix(frame: Any) -> Any:
    """Returns the nine numbers of a frame's display matrix as a buffer of int32, None where it has none."""
    try:
        return frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:
        return _with_named_side_data(frame).side_data.get(Type.DISPLAYMATRIX)


def _with_named_side_data(frame: Any) -> Any:
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)),
        *(graph.add("sidedata", f"mode=delete:type={kind}") for kind in _UNNAMED),
        graph.add("buffersink"),
    )
    graph.configure()
    graph.push(frame)
    return graph.pull()


def square_size(width: int, height: int, pixel: Fraction | None) -> tuple[int, int]:
    """Returns the size of a picture in square pixels, which has no fewer pixels in either direction.

    Players enlarge the side that is too short, as HTML asks of browsers.

    pixel: width of a stored pixel by its height; None where the file does not say.
    """
    if pixel is None or pixel <= 0:
        return width, height
    return _rounded(width * max(pixel, Fraction(1))), _rounded(height / min(pixel, Fraction(1)))


def _rounded(length: Fraction) -> int:
    return math.floor(length + Fraction(1, 2))

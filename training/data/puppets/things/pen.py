"""A pen that turns parts of a thing into filled polygons, and the finished thing."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]
Colour = tuple[int, int, int]
Tone = Literal["main", "second", "dark", "light", "accent"]
Palette = dict[Tone, Colour]


@dataclass(frozen=True)
class Shape:
    """One filled polygon.

    points: (N, 2), in units.
    colour: RGB.
    """

    points: Points
    colour: Colour


@dataclass(frozen=True)
class Prop:
    """A thing's geometry around its own centre, made once per video and then only moved.

    points: (N, 2), all its polygons one after the other; polygon i is `points[cuts[i]:cuts[i + 1]]`.
    size: nominal width and height in units.
    """

    points: Points
    cuts: tuple[int, ...]
    colours: tuple[Colour, ...]
    size: tuple[float, float]

    def placed(self, x: float, y: float, angle: float = 0.0, shear: float = 0.0, scale: float = 1.0) -> list[Shape]:
        """Returns the polygons with the prop's centre at (x, y), turned clockwise by `angle` radians."""
        cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
        matrix = np.array(
            [[cosine, sine], [cosine * shear - sine, sine * shear + cosine]], dtype=np.float32
        )  # row vectors: shear first, then turn
        moved = self.points @ matrix + np.array([x, y], dtype=np.float32)
        return [
            Shape(moved[start:stop], colour)
            for start, stop, colour in zip(self.cuts[:-1], self.cuts[1:], self.colours, strict=True)
        ]


def extent(shapes: Sequence[Shape]) -> tuple[float, float, float, float]:
    """Returns the box (x0, y0, x1, y1) around all polygons, in units."""
    points = np.concatenate([shape.points for shape in shapes])
    low, high = points.min(axis=0), points.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def rgb(hue: float, saturation: float, value: float) -> Colour:
    """Converts a hue, saturation and value in [0, 1] to RGB bytes."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return int(red * 255), int(green * 255), int(blue * 255)


def draw_palette(rng: np.random.Generator, hue: float | None) -> Palette:
    """Draws five tones whose brightness differs enough for parts to stand out; a given `hue` colours the main one."""
    main_hue = rng.random() if hue is None else hue
    other_hue = main_hue + rng.uniform(0.25, 0.75) if hue is None else hue + 0.08
    bright = rng.random() < 0.6 or hue is not None
    value = rng.uniform(0.72, 0.95) if bright else rng.uniform(0.38, 0.58)
    saturation = rng.uniform(0.25, 0.85) if hue is None else 0.85
    return {
        "main": rgb(main_hue, saturation, value),
        "second": rgb(other_hue, rng.uniform(0.2, 0.8), value - 0.34 if bright else value + 0.36),
        "dark": rgb(main_hue + rng.uniform(-0.1, 0.1), rng.uniform(0.1, 0.5), rng.uniform(0.08, 0.24)),
        "light": rgb(rng.random() if hue is None else hue, rng.uniform(0.0, 0.18), rng.uniform(0.9, 1.0)),
        "accent": rgb(main_hue + 0.5 + rng.uniform(-0.15, 0.15), 0.9, rng.uniform(0.7, 1.0)),
    }


class Pen:
    """Collects the polygons of one thing.

    Positions are fractions of the thing's width and height, from its top left corner; only line thickness is in units.
    A `spare` part is inessential and may be left out by part drop-out.
    """

    def __init__(self, size: tuple[float, float], palette: Palette, rng: np.random.Generator, dropout: float) -> None:
        self.width, self.height = size
        self.palette = palette
        self.rng = rng
        self.dropout = dropout
        self._polygons: list[Points] = []
        self._colours: list[Colour] = []

    def poly(self, corners: Sequence[tuple[float, float]], tone: Tone, *, spare: bool = False) -> None:
        """Adds a filled polygon."""
        if spare and self.rng.random() < self.dropout:
            return
        self._add(np.array(corners, dtype=np.float32) * (self.width, self.height), tone)

    def rect(self, x0: float, y0: float, x1: float, y1: float, tone: Tone, *, spare: bool = False) -> None:
        """Adds an upright rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], tone, spare=spare)

    def oval(self, x: float, y: float, rx: float, ry: float, tone: Tone, *, spare: bool = False) -> None:
        """Adds an ellipse with the given centre and radii."""
        turns = np.linspace(0.0, 2.0 * math.pi, 16, endpoint=False)
        self.poly([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in turns], tone, spare=spare)

    def round_rect(self, x0: float, y0: float, x1: float, y1: float, tone: Tone, *, spare: bool = False) -> None:
        """Adds a rectangle with cut corners."""
        dx, dy = (x1 - x0) * 0.14, (y1 - y0) * 0.14
        self.poly(
            [
                (x0 + dx, y0),
                (x1 - dx, y0),
                (x1, y0 + dy),
                (x1, y1 - dy),
                (x1 - dx, y1),
                (x0 + dx, y1),
                (x0, y1 - dy),
                (x0, y0 + dy),
            ],
            tone,
            spare=spare,
        )

    def bar(
        self, x0: float, y0: float, x1: float, y1: float, thickness: float, tone: Tone, *, spare: bool = False
    ) -> None:
        """Adds a straight line of `thickness` units."""
        if spare and self.rng.random() < self.dropout:
            return
        start = np.array((x0 * self.width, y0 * self.height))
        end = np.array((x1 * self.width, y1 * self.height))
        along = end - start
        across = np.array((-along[1], along[0])) * (thickness / 2.0 / max(float(np.hypot(*along)), 1e-6))
        self._add(np.stack([start + across, end + across, end - across, start - across]).astype(np.float32), tone)

    def arc(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        angles: tuple[float, float],
        thickness: float,
        tone: Tone,
        *,
        spare: bool = False,
    ) -> None:
        """Adds part of a ring between two `angles` in degrees (0 = right, 90 = down); `radii` are the outer ones."""
        if spare and self.rng.random() < self.dropout:
            return
        turns = np.radians(np.linspace(angles[0], angles[1], 11))
        rx, ry = radii[0] * self.width, radii[1] * self.height
        outer = np.stack([np.cos(turns) * rx, np.sin(turns) * ry], axis=1)
        inner = np.stack([np.cos(turns) * max(rx - thickness, 0.1), np.sin(turns) * max(ry - thickness, 0.1)], axis=1)
        middle = np.array((centre[0] * self.width, centre[1] * self.height))
        self._add((np.concatenate([outer, inner[::-1]]) + middle).astype(np.float32), tone)

    def finish(self, *, mirrored: bool = False) -> Prop:
        """Returns the thing, centred on the middle of its nominal size."""
        points = np.concatenate(self._polygons) - np.array((self.width / 2.0, self.height / 2.0), dtype=np.float32)
        if mirrored:
            points = points * np.array((-1.0, 1.0), dtype=np.float32)
        cuts = (0, *np.cumsum([len(polygon) for polygon in self._polygons]).tolist())
        return Prop(points.astype(np.float32), cuts, tuple(self._colours), (self.width, self.height))

    def _add(self, polygon: Points, tone: Tone) -> None:
        self._polygons.append(polygon.astype(np.float32))
        self._colours.append(self.palette[tone])

"""Rooms: wall, floor, texture, furniture-like shapes, and the light that falls on everything."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from training.data.puppets.things import Shape, rgb
from training.data.puppets.world import World

Image = npt.NDArray[np.uint8]

GRAIN_MARGIN: Final = 32


@dataclass(frozen=True)
class Room:
    """The scenery of a video.

    backdrop: (H, W, 3), painted over.
    light: (H, W, 3) float32, multiplies the painted picture.
    blur: standard deviation in pixels.
    grain: (H + GRAIN_MARGIN, W + GRAIN_MARGIN, 3), sensor noise in grey levels; every frame shows another cut-out of
        it.
    """

    backdrop: Image
    light: npt.NDArray[np.float32]
    blur: float
    grain: npt.NDArray[np.float32]


def draw_room(world: World, rng: np.random.Generator) -> Room:
    """Draws a random room in muted colours, so that things stand out from it more often than not."""
    width, height, scale = world.width, world.height, world.scale
    wall = np.array(rgb(rng.random(), rng.uniform(0.02, 0.3), rng.uniform(0.45, 0.95)), dtype=np.float32)
    ground = np.array(rgb(rng.uniform(0.0, 0.2), rng.uniform(0.05, 0.45), rng.uniform(0.3, 0.8)), dtype=np.float32)
    edge = int(rng.uniform(84.0, 106.0) * scale)
    image = np.empty((height, width, 3), dtype=np.float32)
    image[:edge] = wall * np.linspace(1.06, 0.94, edge, dtype=np.float32)[:, None, None]
    image[edge:] = ground * np.linspace(0.85, 1.08, height - edge, dtype=np.float32)[:, None, None]
    image[edge - max(int(2 * scale), 1) : edge] = wall * 0.72
    coarse = rng.normal(0.0, 1.0, (5, 7, 1)).astype(np.float32)
    fine = rng.normal(0.0, 1.0, (height // 3, width // 3, 1)).astype(np.float32)
    image *= 1.0 + 0.05 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[:, :, None]
    image *= 1.0 + 0.02 * cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)[:, :, None]
    if rng.random() < 0.35:  # stripes of a wall paper
        phase = np.arange(width, dtype=np.float32) / (rng.uniform(5.0, 14.0) * scale)
        image[:edge] *= (1.0 + 0.04 * np.sign(np.sin(phase * math.pi)))[None, :, None]
    backdrop = np.clip(image, 0, 255).astype(np.uint8)
    paint(backdrop, _clutter(world, rng, edge / scale, wall, ground), scale)
    blur = rng.uniform(0.0, world.blur) * scale
    grain = rng.standard_normal((height + GRAIN_MARGIN, width + GRAIN_MARGIN, 3), dtype=np.float32)
    grain *= np.float32(rng.uniform(*world.noise))
    return Room(backdrop, _draw_light(world, rng), blur, grain)


def paint(image: Image, shapes: Sequence[Shape], scale: float) -> None:
    """Fills polygons one after the other, anti-aliased, at a sixteenth of a pixel."""
    for polygon, shape in zip(fixed_point(shapes, scale, -0.5), shapes, strict=True):
        cv2.fillPoly(image, [polygon], shape.colour, cv2.LINE_AA, 4)


def fixed_point(shapes: Sequence[Shape], scale: float, shift: float) -> list[npt.NDArray[np.int32]]:
    """Returns polygons in sixteenths of a pixel: `points * scale + shift`, all computed at once."""
    if not shapes:
        return []
    points = np.concatenate([shape.points for shape in shapes])
    fixed = np.rint((points * scale + shift) * 16.0).astype(np.int32)
    polygons: list[npt.NDArray[np.int32]] = []
    start = 0
    for shape in shapes:
        polygons.append(fixed[start : start + len(shape.points)])
        start += len(shape.points)
    return polygons


def _clutter(
    world: World, rng: np.random.Generator, edge: float, wall: npt.NDArray[np.float32], ground: npt.NDArray[np.float32]
) -> list[Shape]:
    """Draws boards, blocks, discs and slanted patches close to the colours around them."""
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(world.clutter + 1))):
        on_wall = rng.random() < 0.7
        w, h = rng.uniform(6.0, 46.0), rng.uniform(4.0, 34.0)
        x = rng.uniform(0.0, world.unit_width)
        y = rng.uniform(4.0, edge - h / 2.0) if on_wall else rng.uniform(edge, 126.0)
        tint = np.clip((wall if on_wall else ground) * rng.uniform(0.6, 1.25) + rng.normal(0.0, 12.0, 3), 0, 255)
        kind = int(rng.integers(4))
        if kind == 0:
            turns = np.linspace(0.0, 2.0 * math.pi, 14, endpoint=False)
            corners = np.stack([np.cos(turns) * w / 2.0, np.sin(turns) * h / 2.0], axis=1)
        elif kind == 1:
            slant = rng.uniform(-8.0, 8.0)
            corners = np.array([(-w / 2 + slant, -h / 2), (w / 2 + slant, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)])
        elif kind == 2:
            corners = np.array([(-w / 2, -1.5), (w / 2, -1.5), (w / 2, 1.5), (-w / 2, 1.5)])
        else:
            corners = np.array([(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)])
        red, green, blue = (int(channel) for channel in tint)
        shapes.append(Shape((corners + np.array((x, y))).astype(np.float32), (red, green, blue)))
    return shapes


def _draw_light(world: World, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draws overall brightness, a gradient across the frame and a colour cast, (H, W, 3)."""
    strength = world.light
    turn = rng.uniform(0.0, 2.0 * math.pi)
    across = np.linspace(-0.5, 0.5, world.width, dtype=np.float32)[None, :] * math.cos(turn)
    down = np.linspace(-0.5, 0.5, world.height, dtype=np.float32)[:, None] * math.sin(turn)
    brightness = 1.0 + rng.uniform(-1.0, 0.5) * strength
    cast = 1.0 + rng.uniform(-0.4, 0.4, 3) * strength
    field = brightness * (1.0 + rng.uniform(0.0, 1.0) * strength * (across + down))
    return np.asarray(field[:, :, None] * cast, dtype=np.float32)

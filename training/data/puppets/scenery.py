"""Distractors and occluders: shapes in the picture that are not related to the person."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from training.data.puppets.relations import Box
from training.data.puppets.things import SIZES, THINGS, Prop, Shape, make_prop, rgb
from training.data.puppets.ties import OBJECT_COUNTS
from training.data.puppets.world import World


@dataclass(frozen=True)
class Extra:
    """A thing or a shape at a fixed place that drifts to and fro.

    drift: how far it drifts, in units.
    shear: horizontal shear.
    """

    name: str
    prop: Prop
    x: float
    y: float
    angle: float
    drift: float
    shear: float = 0.0

    @cached_property
    def _resting(self) -> list[Shape]:
        return self.prop.placed(self.x, self.y, self.angle, self.shear)

    def shapes(self, time: float) -> list[Shape]:
        """Returns its polygons at `time` seconds."""
        if not self.drift:
            return self._resting
        return self.prop.placed(self.x + self.drift * math.sin(time * 0.9), self.y, self.angle, self.shear)


def draw_distractors(world: World, rng: np.random.Generator, bodies: list[Box], taken: list[Box]) -> tuple[Extra, ...]:
    """Draws things that nobody relates to, beyond arm's reach of the `bodies` and clear of the `taken` boxes."""
    shares = np.array(world.distractor_counts)
    count = int(rng.choice(len(shares), p=shares / shares.sum()))
    frequency = np.sqrt(np.array(OBJECT_COUNTS, dtype=np.float64))
    frequency /= frequency.sum()
    extras: list[Extra] = []
    boxes = list(taken)
    for _ in range(count * 14):
        if len(extras) == count:
            break
        name = THINGS[int(rng.choice(len(THINGS), p=frequency))]
        low_width, high_width, low_height, high_height = SIZES[name]
        scale = 0.92 * rng.uniform(*world.thing_scale)
        width = max(rng.uniform(low_width, high_width) * scale, 11.0)
        height = max(rng.uniform(low_height, high_height) * scale, 12.0)
        x = rng.uniform(width * 0.35, world.unit_width - width * 0.35)
        tall = height > 48.0 or name in ("chair", "sofa/couch", "bed", "table", "vacuum", "floor")
        y = rng.uniform(108.0, 122.0) - height / 2.0 if tall else rng.uniform(height / 2.0 + 2.0, 124.0 - height / 2.0)
        box = (x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0)
        near = rng.random() < world.near_distractor_share
        least = world.distractor_gap * (0.5 if near else 1.0)
        area = width * height
        if any(gap(box, body) < least for body in bodies):
            continue
        if any(common_area(box, other) > 0.12 * min(area, _area(other)) for other in boxes):
            continue
        prop = make_prop(name, world, rng, size=(width, height))
        extras.append(Extra(name, prop, x, y, float(np.radians(rng.normal(0.0, world.rotation / 3.0))), 0.0))
        boxes.append(box)
    return tuple(extras)


def draw_occluders(world: World, rng: np.random.Generator, heads: list[Box], taken: list[Box]) -> tuple[Extra, ...]:
    """Draws plain shapes near the camera that cover neither the heads nor much of the `taken` boxes."""
    shares = np.array(world.occluder_counts)
    count = int(rng.choice(len(shares), p=shares / shares.sum()))
    extras: list[Extra] = []
    for _ in range(count * 10):
        if len(extras) == count:
            break
        if rng.random() < 0.5:  # a post or a rope across the picture
            width, height = rng.uniform(3.0, 7.0), rng.uniform(50.0, 150.0)
        else:
            width, height = rng.uniform(10.0, 26.0), rng.uniform(10.0, 26.0)
        x, y = rng.uniform(0.0, world.unit_width), rng.uniform(0.0, 128.0)
        box = (x - width / 2.0 - 2.0, y - height / 2.0, x + width / 2.0 + 2.0, y + height / 2.0)
        if any(common_area(box, head) > 0.0 for head in heads):
            continue
        if any(common_area(box, other) > 0.22 * _area(other) for other in taken):
            continue
        turns = np.linspace(0.0, 2.0 * math.pi, int(rng.integers(4, 9)), endpoint=False) + rng.uniform(0.0, 1.0)
        corners = np.stack([np.cos(turns) * width / 2.0, np.sin(turns) * height / 2.0], axis=1).astype(np.float32)
        colour = rgb(rng.random(), rng.uniform(0.0, 0.5), rng.uniform(0.1, 0.8))
        prop = Prop(corners, (0, len(corners)), (colour,), (width, height))
        extras.append(Extra("occluder", prop, x, y, 0.0, rng.uniform(0.0, 2.0)))
    return tuple(extras)


def gap(a: Box, b: Box) -> float:
    """Returns the distance between two boxes in units, 0 where they overlap."""
    return math.hypot(max(a[0] - b[2], b[0] - a[2], 0.0), max(a[1] - b[3], b[1] - a[3], 0.0))


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def common_area(a: Box, b: Box) -> float:
    """Returns the area that two boxes share, in square units."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)

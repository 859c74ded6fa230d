"""The 35 classes of things, each with a silhouette and parts that tell it apart without colour."""

from collections.abc import Callable
from typing import Final

import numpy as np

from models.graph.vocabulary import ACTION_GENOME
from training.data.puppets.things import fixtures, furniture, handheld
from training.data.puppets.things.pen import Pen, Prop, Shape, draw_palette, extent, rgb
from training.data.puppets.world import World

__all__ = ["DRAWERS", "SIZES", "THINGS", "Prop", "Shape", "extent", "make_prop", "rgb"]

DRAWERS: Final[dict[str, Callable[[Pen], None]]] = {
    "bag": handheld.bag,
    "bed": furniture.bed,
    "blanket": fixtures.blanket,
    "book": handheld.book,
    "box": handheld.box,
    "broom": handheld.broom,
    "chair": furniture.chair,
    "closet/cabinet": furniture.closet,
    "clothes": fixtures.clothes,
    "cup/glass/bottle": handheld.cup,
    "dish": handheld.dish,
    "door": fixtures.door,
    "doorknob": fixtures.doorknob,
    "doorway": fixtures.doorway,
    "floor": furniture.floor,
    "food": handheld.food,
    "groceries": handheld.groceries,
    "laptop": handheld.laptop,
    "light": furniture.light,
    "medicine": handheld.medicine,
    "mirror": fixtures.mirror,
    "paper/notebook": handheld.paper,
    "phone/camera": handheld.phone,
    "picture": fixtures.picture,
    "pillow": fixtures.pillow,
    "refrigerator": furniture.refrigerator,
    "sandwich": handheld.sandwich,
    "shelf": furniture.shelf,
    "shoe": fixtures.shoe,
    "sofa/couch": furniture.sofa,
    "table": furniture.table,
    "television": furniture.television,
    "towel": fixtures.towel,
    "vacuum": furniture.vacuum,
    "window": fixtures.window,
}
"""The function that draws each class."""

SIZES: Final[dict[str, tuple[float, float, float, float]]] = {
    "bag": (21, 28, 24, 32),
    "bed": (72, 100, 34, 44),
    "blanket": (34, 50, 26, 38),
    "book": (20, 26, 15, 20),
    "box": (24, 34, 21, 30),
    "broom": (13, 17, 50, 64),
    "chair": (32, 42, 48, 60),
    "closet/cabinet": (40, 56, 64, 84),
    "clothes": (24, 30, 24, 30),
    "cup/glass/bottle": (15, 19, 16, 21),
    "dish": (25, 32, 17, 22),
    "door": (34, 44, 70, 92),
    "doorknob": (13, 17, 20, 26),
    "doorway": (46, 60, 84, 104),
    "floor": (92, 140, 20, 34),
    "food": (17, 22, 17, 22),
    "groceries": (22, 29, 27, 35),
    "laptop": (26, 34, 19, 25),
    "light": (20, 28, 25, 36),
    "medicine": (14, 18, 19, 24),
    "mirror": (21, 30, 31, 42),
    "paper/notebook": (16, 20, 20, 25),
    "phone/camera": (12, 15, 20, 25),
    "picture": (25, 36, 21, 30),
    "pillow": (27, 36, 17, 22),
    "refrigerator": (34, 44, 66, 88),
    "sandwich": (19, 24, 16, 20),
    "shelf": (38, 56, 28, 44),
    "shoe": (19, 24, 14, 18),
    "sofa/couch": (64, 88, 36, 46),
    "table": (50, 74, 30, 40),
    "television": (36, 52, 30, 40),
    "towel": (19, 25, 28, 38),
    "vacuum": (30, 38, 30, 42),
    "window": (34, 48, 36, 48),
}
"""Least and greatest width, least and greatest height of each class, in units."""

THINGS: Final = ACTION_GENOME.things


def make_prop(
    name: str,
    world: World,
    rng: np.random.Generator,
    *,
    size: tuple[float, float] | None = None,
    mirrored: bool | None = None,
) -> Prop:
    """Makes a thing of class `name`.

    size: width and height in units; None draws them at random from `SIZES`.
    """
    low_width, high_width, low_height, high_height = SIZES[name]
    if size is None:
        size = (rng.uniform(low_width, high_width), rng.uniform(low_height, high_height))
    hue = THINGS.index(name) * 0.381966 if world.colour_coded else None  # golden-ratio steps spread 35 hues evenly
    pen = Pen(size, draw_palette(rng, hue), rng, world.part_dropout)
    DRAWERS[name](pen)
    return pen.finish(mirrored=bool(rng.random() < 0.5) if mirrored is None else mirrored)

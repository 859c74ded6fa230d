"""Things fixed to a wall, and cloths."""

import math

from training.data.puppets.things.pen import Pen


def door(pen: Pen) -> None:
    """A closed panel door: two inset panels and a knob at one edge."""
    pen.rect(0.0, 0.0, 1.0, 1.0, "dark")
    pen.rect(0.07, 0.035, 0.93, 1.0, "main")
    pen.rect(0.2, 0.1, 0.8, 0.42, "second")
    pen.rect(0.2, 0.58, 0.8, 0.92, "second")
    pen.rect(0.26, 0.13, 0.74, 0.39, "main", spare=True)
    pen.rect(0.26, 0.61, 0.74, 0.89, "main", spare=True)
    pen.oval(0.82, 0.5, 0.09, 0.038, "accent")


def doorknob(pen: Pen) -> None:
    """A round knob on an upright plate with a keyhole."""
    pen.round_rect(0.18, 0.0, 0.82, 1.0, "main")
    pen.oval(0.5, 0.33, 0.5, 0.29, "dark")
    pen.oval(0.5, 0.31, 0.38, 0.22, "second")
    pen.oval(0.4, 0.25, 0.13, 0.08, "light", spare=True)
    pen.oval(0.5, 0.74, 0.14, 0.07, "dark")
    pen.poly([(0.44, 0.75), (0.56, 0.75), (0.64, 0.91), (0.36, 0.91)], "dark")


def doorway(pen: Pen) -> None:
    """An open arch with a dark passage behind it."""
    arch = [(0.5 + 0.5 * math.cos(a), 0.3 + 0.3 * math.sin(a)) for a in (math.pi * (1 + i / 12) for i in range(13))]
    pen.poly([(0.0, 1.0), *arch, (1.0, 1.0)], "main")
    inner = [(0.5 + 0.38 * math.cos(a), 0.32 + 0.24 * math.sin(a)) for a in (math.pi * (1 + i / 12) for i in range(13))]
    pen.poly([(0.12, 1.0), *inner, (0.88, 1.0)], "dark")
    pen.poly([(0.12, 1.0), (0.3, 0.84), (0.7, 0.84), (0.88, 1.0)], "second", spare=True)


def window(pen: Pen) -> None:
    """Four panes behind a cross of bars, over a sill."""
    pen.rect(0.04, 0.0, 0.96, 0.94, "main")
    for x in (0.13, 0.545):
        for y in (0.09, 0.5):
            pen.rect(x, y, x + 0.325, y + 0.34, "light")
    pen.poly([(0.16, 0.38), (0.34, 0.12), (0.42, 0.12), (0.2, 0.42)], "second", spare=True)
    pen.rect(0.0, 0.92, 1.0, 1.0, "dark")


def mirror(pen: Pen) -> None:
    """An upright oval glass in a frame, with two strokes of glare."""
    pen.oval(0.5, 0.5, 0.5, 0.5, "main")
    pen.oval(0.5, 0.5, 0.38, 0.41, "light")
    pen.bar(0.3, 0.55, 0.6, 0.22, 2.4, "second")
    pen.bar(0.42, 0.72, 0.68, 0.42, 1.6, "second", spare=True)


def picture(pen: Pen) -> None:
    """A frame around a mountain under a sun."""
    pen.rect(0.0, 0.0, 1.0, 1.0, "main")
    pen.rect(0.13, 0.15, 0.87, 0.85, "light")
    pen.poly([(0.13, 0.85), (0.4, 0.35), (0.58, 0.65), (0.68, 0.52), (0.87, 0.85)], "dark")
    pen.oval(0.72, 0.32, 0.09, 0.11, "accent", spare=True)


def blanket(pen: Pen) -> None:
    """A broad cloth with a wavy hem and slanting stripes."""
    top = [(x / 8, 0.06 + 0.06 * math.sin(x * 1.7)) for x in range(9)]
    hem = [(x / 12, 0.93 + 0.07 * math.cos(x * math.pi)) for x in range(12, -1, -1)]
    pen.poly([*top, *hem], "main")
    for x in (0.02, 0.3, 0.58):
        pen.poly([(x + 0.18, 0.14), (x + 0.29, 0.14), (x + 0.14, 0.86), (x + 0.03, 0.86)], "second", spare=x > 0.2)


def towel(pen: Pen) -> None:
    """A hanging cloth over a rod: two bands across and a fringe."""
    pen.rect(0.08, 0.03, 0.92, 0.86, "main")
    pen.rect(0.08, 0.58, 0.92, 0.65, "second")
    pen.rect(0.08, 0.71, 0.92, 0.78, "second")
    for x in range(5):
        pen.rect(0.09 + x * 0.175, 0.86, 0.18 + x * 0.175, 1.0, "main")
    pen.rect(0.0, 0.0, 1.0, 0.07, "dark")


def pillow(pen: Pen) -> None:
    """A cushion with four pointed corners."""
    pen.poly(
        [(0, 0), (0.25, 0.14), (0.5, 0.1), (0.75, 0.14), (1, 0), (0.93, 0.3), (0.93, 0.7), (1, 1),
         (0.75, 0.86), (0.5, 0.9), (0.25, 0.86), (0, 1), (0.07, 0.7), (0.07, 0.3)],
        "main",
    )  # fmt: skip
    pen.bar(0.18, 0.3, 0.32, 0.4, 1.4, "dark", spare=True)
    pen.bar(0.82, 0.7, 0.68, 0.6, 1.4, "dark", spare=True)
    pen.oval(0.5, 0.5, 0.06, 0.1, "second")


def clothes(pen: Pen) -> None:
    """A shirt: two sleeves, a neck, a stripe."""
    pen.poly(
        [(0.32, 0.0), (0.42, 0.1), (0.58, 0.1), (0.68, 0.0), (0.88, 0.08), (1.0, 0.42), (0.84, 0.5), (0.76, 0.34),
         (0.78, 1.0), (0.22, 1.0), (0.24, 0.34), (0.16, 0.5), (0.0, 0.42), (0.12, 0.08)],
        "main",
    )  # fmt: skip
    pen.rect(0.23, 0.5, 0.77, 0.64, "second")
    pen.oval(0.5, 0.28, 0.035, 0.035, "dark", spare=True)
    pen.oval(0.5, 0.42, 0.035, 0.035, "dark", spare=True)


def shoe(pen: Pen) -> None:
    """Shaft and toe in an L, on a sole, with laces."""
    pen.poly([(0.02, 0.0), (0.42, 0.0), (0.46, 0.38), (0.82, 0.5), (0.98, 0.68), (1.0, 0.84), (0.02, 0.84)], "main")
    pen.rect(0.0, 0.82, 1.0, 1.0, "dark")
    pen.bar(0.42, 0.28, 0.58, 0.5, 1.2, "light", spare=True)
    pen.bar(0.56, 0.36, 0.7, 0.56, 1.2, "light", spare=True)
    pen.rect(0.02, 0.0, 0.43, 0.14, "second")

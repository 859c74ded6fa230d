"""Things that a hand can hold."""

from training.data.puppets.things.pen import Pen


def bag(pen: Pen) -> None:
    """A sack with a handle arching over it and a pocket."""
    pen.arc((0.5, 0.38), (0.32, 0.38), (180, 360), 2.6, "dark")
    pen.poly([(0.1, 0.34), (0.9, 0.34), (1.0, 0.96), (0.94, 1.0), (0.06, 1.0), (0.0, 0.96)], "main")
    pen.rect(0.24, 0.6, 0.76, 0.88, "second", spare=True)
    pen.rect(0.1, 0.34, 0.9, 0.42, "dark", spare=True)


def book(pen: Pen) -> None:
    """An open book: two slanting pages over a cover, with lines of print."""
    pen.poly([(0.0, 0.2), (0.5, 0.36), (1.0, 0.2), (1.0, 0.9), (0.5, 1.0), (0.0, 0.9)], "main")
    pen.poly([(0.05, 0.0), (0.5, 0.22), (0.5, 0.92), (0.05, 0.76)], "light")
    pen.poly([(0.95, 0.0), (0.5, 0.22), (0.5, 0.92), (0.95, 0.76)], "light")
    pen.bar(0.5, 0.2, 0.5, 0.95, 1.5, "dark")
    for y in (0.28, 0.48):
        pen.bar(0.13, y - 0.06, 0.42, y + 0.08, 1.1, "dark", spare=True)
        pen.bar(0.87, y - 0.06, 0.58, y + 0.08, 1.1, "dark", spare=True)


def box(pen: Pen) -> None:
    """An open carton: front, dark inside, two flaps spread out, a tape."""
    pen.poly([(0.12, 0.3), (0.24, 0.12), (0.76, 0.12), (0.88, 0.3)], "dark")
    pen.rect(0.12, 0.3, 0.88, 1.0, "main")
    pen.poly([(0.12, 0.3), (0.24, 0.12), (0.12, 0.0), (0.0, 0.16)], "second")
    pen.poly([(0.88, 0.3), (0.76, 0.12), (0.88, 0.0), (1.0, 0.16)], "second")
    pen.rect(0.43, 0.3, 0.57, 0.72, "second", spare=True)


def broom(pen: Pen) -> None:
    """A long stick and a flared brush."""
    pen.bar(0.5, 0.0, 0.5, 0.78, 3.0, "dark")
    pen.poly([(0.3, 0.74), (0.7, 0.74), (1.0, 1.0), (0.0, 1.0)], "main")
    pen.rect(0.26, 0.72, 0.74, 0.79, "second")
    pen.bar(0.42, 0.82, 0.3, 1.0, 1.0, "dark", spare=True)
    pen.bar(0.58, 0.82, 0.7, 1.0, 1.0, "dark", spare=True)


def cup(pen: Pen) -> None:
    """A tapering mug with a handle and an open rim."""
    pen.arc((0.72, 0.45), (0.28, 0.28), (-90, 90), 2.4, "dark")
    pen.poly([(0.0, 0.08), (0.78, 0.08), (0.66, 1.0), (0.12, 1.0)], "main")
    pen.oval(0.39, 0.09, 0.39, 0.09, "light")
    pen.oval(0.39, 0.1, 0.28, 0.055, "dark")
    pen.poly([(0.04, 0.45), (0.74, 0.45), (0.72, 0.62), (0.06, 0.62)], "second", spare=True)


def dish(pen: Pen) -> None:
    """A round plate between a fork and a knife."""
    pen.oval(0.5, 0.5, 0.33, 0.5, "main")
    pen.oval(0.5, 0.5, 0.22, 0.34, "light")
    pen.oval(0.5, 0.5, 0.1, 0.16, "second", spare=True)
    pen.bar(0.08, 0.3, 0.08, 0.98, 1.7, "dark")
    pen.rect(0.0, 0.04, 0.16, 0.16, "dark")
    pen.rect(0.0, 0.04, 0.05, 0.36, "dark")
    pen.rect(0.11, 0.04, 0.16, 0.36, "dark")
    pen.poly([(0.88, 0.02), (0.98, 0.12), (0.98, 0.55), (0.95, 0.98), (0.88, 0.98)], "dark")


def food(pen: Pen) -> None:
    """A round fruit with a stem, a leaf and a shine."""
    pen.oval(0.36, 0.64, 0.36, 0.36, "main")
    pen.oval(0.64, 0.64, 0.36, 0.36, "main")
    pen.bar(0.5, 0.36, 0.54, 0.04, 2.0, "dark")
    pen.poly([(0.54, 0.22), (0.68, 0.02), (0.96, 0.04), (0.8, 0.24)], "second")
    pen.oval(0.26, 0.56, 0.1, 0.12, "light", spare=True)


def groceries(pen: Pen) -> None:
    """A paper bag with a jagged rim; a loaf and greens stick out."""
    pen.poly([(0.2, 0.5), (0.1, 0.02), (0.26, 0.0), (0.42, 0.5)], "accent")
    pen.oval(0.52, 0.32, 0.15, 0.15, "second")
    pen.poly([(0.62, 0.5), (0.6, 0.12), (0.76, 0.26), (0.9, 0.06), (0.92, 0.3), (0.82, 0.5)], "dark", spare=True)
    pen.poly(
        [(0.04, 0.4), (0.16, 0.46), (0.28, 0.4), (0.4, 0.46), (0.52, 0.4), (0.64, 0.46), (0.76, 0.4), (0.88, 0.46),
         (0.98, 0.4), (0.94, 1.0), (0.08, 1.0)],
        "main",
    )  # fmt: skip
    pen.bar(0.26, 0.5, 0.26, 1.0, 1.2, "dark", spare=True)


def laptop(pen: Pen) -> None:
    """A tilted screen hinged to a keyboard."""
    pen.poly([(0.2, 0.0), (0.96, 0.0), (0.86, 0.64), (0.1, 0.64)], "main")
    pen.poly([(0.27, 0.08), (0.87, 0.08), (0.79, 0.56), (0.19, 0.56)], "light")
    pen.poly([(0.1, 0.64), (0.86, 0.64), (0.92, 1.0), (0.0, 1.0)], "dark")
    pen.bar(0.16, 0.75, 0.8, 0.75, 1.3, "second")
    pen.bar(0.13, 0.87, 0.83, 0.87, 1.3, "second", spare=True)


def medicine(pen: Pen) -> None:
    """A bottle with a cap and a cross, and two pills."""
    pen.rect(0.2, 0.0, 0.68, 0.2, "dark")
    pen.round_rect(0.08, 0.18, 0.8, 1.0, "main")
    pen.rect(0.08, 0.36, 0.8, 0.86, "light")
    pen.rect(0.37, 0.4, 0.51, 0.82, "accent")
    pen.rect(0.22, 0.54, 0.66, 0.68, "accent")
    pen.oval(0.9, 0.93, 0.1, 0.07, "second", spare=True)


def paper(pen: Pen) -> None:
    """A sheet with a folded corner and ruled lines."""
    pen.poly([(0.0, 0.0), (0.68, 0.0), (1.0, 0.26), (1.0, 1.0), (0.0, 1.0)], "light")
    pen.poly([(0.68, 0.0), (1.0, 0.26), (0.68, 0.26)], "main")
    for y in (0.38, 0.54, 0.7, 0.86):
        pen.bar(0.14, y, 0.86, y, 1.2, "dark", spare=y > 0.6)
    pen.rect(0.0, 0.0, 0.07, 1.0, "main", spare=True)


def phone(pen: Pen) -> None:
    """A slab with a screen and a big lens."""
    pen.round_rect(0.0, 0.0, 1.0, 1.0, "dark")
    pen.rect(0.13, 0.36, 0.87, 0.84, "main")
    pen.oval(0.5, 0.19, 0.2, 0.12, "light")
    pen.oval(0.5, 0.19, 0.1, 0.06, "dark", spare=True)
    pen.rect(0.38, 0.88, 0.62, 0.94, "light", spare=True)


def sandwich(pen: Pen) -> None:
    """A cut triangle: bread on top, leaf and filling in between, bread below."""
    pen.poly([(0.06, 0.5), (0.5, 0.0), (0.94, 0.5)], "main")
    pen.poly([(0.24, 0.42), (0.5, 0.12), (0.76, 0.42)], "light", spare=True)
    pen.poly(
        [(0.0, 0.48), (1.0, 0.48), (0.92, 0.66), (0.8, 0.56), (0.66, 0.68), (0.5, 0.56), (0.34, 0.68), (0.2, 0.56),
         (0.08, 0.66)],
        "second",
    )  # fmt: skip
    pen.rect(0.05, 0.64, 0.95, 0.78, "dark")
    pen.rect(0.04, 0.78, 0.96, 1.0, "main")

"""Things that stand on the floor."""

from training.data.puppets.things.pen import Pen


def bed(pen: Pen) -> None:
    """Head board, mattress with pillow and cover, foot board."""
    pen.rect(0.06, 0.42, 0.97, 0.78, "light")
    pen.rect(0.4, 0.4, 0.97, 0.8, "main")
    pen.bar(0.4, 0.4, 0.4, 0.8, 2.0, "second", spare=True)
    pen.oval(0.2, 0.42, 0.13, 0.12, "second")
    pen.rect(0.0, 0.0, 0.07, 1.0, "dark")
    pen.rect(0.94, 0.3, 1.0, 1.0, "dark")


def chair(pen: Pen) -> None:
    """A chair from the side: back on the left, seat, legs."""
    pen.poly([(0.0, 0.0), (0.15, 0.0), (0.22, 0.56), (0.06, 0.56)], "main")
    pen.rect(0.04, 0.5, 1.0, 0.61, "main")
    pen.rect(0.24, 0.46, 0.98, 0.51, "second", spare=True)
    pen.poly([(0.08, 0.6), (0.22, 0.6), (0.12, 1.0), (0.0, 1.0)], "dark")
    pen.poly([(0.8, 0.6), (0.94, 0.6), (1.0, 1.0), (0.88, 1.0)], "dark")
    pen.bar(0.1, 0.8, 0.92, 0.8, 1.8, "dark", spare=True)


def closet(pen: Pen) -> None:
    """Cornice, two doors with a knob each, feet."""
    pen.rect(0.04, 0.06, 0.96, 0.94, "main")
    pen.rect(0.0, 0.0, 1.0, 0.08, "dark")
    pen.rect(0.1, 0.14, 0.46, 0.88, "second")
    pen.rect(0.54, 0.14, 0.9, 0.88, "second")
    pen.rect(0.16, 0.2, 0.4, 0.82, "main", spare=True)
    pen.rect(0.6, 0.2, 0.84, 0.82, "main", spare=True)
    pen.rect(0.42, 0.46, 0.48, 0.58, "light")
    pen.rect(0.52, 0.46, 0.58, 0.58, "light")
    pen.rect(0.06, 0.93, 0.2, 1.0, "dark")
    pen.rect(0.8, 0.93, 0.94, 1.0, "dark")


def refrigerator(pen: Pen) -> None:
    """A tall rounded body, a freezer door on top, two handles on one side."""
    pen.round_rect(0.0, 0.0, 1.0, 0.97, "main")
    pen.rect(0.0, 0.3, 1.0, 0.335, "dark")
    pen.rect(0.1, 0.1, 0.19, 0.25, "dark")
    pen.rect(0.1, 0.4, 0.19, 0.66, "dark")
    pen.rect(0.55, 0.42, 0.8, 0.52, "light", spare=True)
    pen.rect(0.08, 0.95, 0.92, 1.0, "dark")


def sofa(pen: Pen) -> None:
    """Rounded back, two arms, two cushions, feet."""
    pen.round_rect(0.08, 0.0, 0.92, 0.7, "main")
    pen.bar(0.5, 0.04, 0.5, 0.5, 1.2, "dark", spare=True)
    pen.rect(0.14, 0.48, 0.495, 0.72, "second")
    pen.rect(0.505, 0.48, 0.86, 0.72, "second")
    pen.rect(0.1, 0.7, 0.9, 0.9, "main")
    pen.round_rect(0.0, 0.3, 0.16, 0.92, "main")
    pen.round_rect(0.84, 0.3, 1.0, 0.92, "main")
    pen.oval(0.08, 0.38, 0.06, 0.07, "second", spare=True)
    pen.oval(0.92, 0.38, 0.06, 0.07, "second", spare=True)
    pen.rect(0.06, 0.9, 0.13, 1.0, "dark")
    pen.rect(0.87, 0.9, 0.94, 1.0, "dark")


def table(pen: Pen) -> None:
    """A slab with an apron on four legs."""
    pen.rect(0.22, 0.16, 0.28, 0.86, "dark", spare=True)
    pen.rect(0.72, 0.16, 0.78, 0.86, "dark", spare=True)
    pen.rect(0.06, 0.14, 0.94, 0.26, "second")
    pen.rect(0.06, 0.16, 0.14, 1.0, "main")
    pen.rect(0.86, 0.16, 0.94, 1.0, "main")
    pen.rect(0.0, 0.0, 1.0, 0.17, "main")


def television(pen: Pen) -> None:
    """A wide dark screen with a glare, on a stand."""
    pen.rect(0.44, 0.78, 0.56, 0.95, "main")
    pen.rect(0.25, 0.92, 0.75, 1.0, "main")
    pen.rect(0.0, 0.0, 1.0, 0.82, "main")
    pen.rect(0.06, 0.08, 0.94, 0.74, "dark")
    pen.poly([(0.16, 0.62), (0.38, 0.14), (0.52, 0.14), (0.3, 0.62)], "second", spare=True)


def shelf(pen: Pen) -> None:
    """Open boards between two sides, with a few standing things."""
    pen.rect(0.12, 0.12, 0.2, 0.44, "second", spare=True)
    pen.rect(0.22, 0.2, 0.3, 0.44, "accent", spare=True)
    pen.rect(0.62, 0.16, 0.74, 0.44, "light", spare=True)
    pen.rect(0.36, 0.62, 0.46, 0.9, "accent", spare=True)
    pen.rect(0.7, 0.58, 0.8, 0.9, "second", spare=True)
    pen.rect(0.0, 0.02, 0.06, 1.0, "main")
    pen.rect(0.94, 0.02, 1.0, 1.0, "main")
    for y in (0.0, 0.43, 0.89):
        pen.rect(0.0, y, 1.0, y + 0.11, "main")


def vacuum(pen: Pen) -> None:
    """A canister on a wheel, a hose in an arc, a tube down to a wide nozzle."""
    pen.arc((0.52, 0.62), (0.28, 0.62), (180, 330), 2.6, "dark")
    pen.bar(0.74, 0.28, 0.9, 0.92, 2.8, "second")
    pen.rect(0.74, 0.9, 1.0, 1.0, "dark")
    pen.round_rect(0.0, 0.55, 0.55, 0.92, "main")
    pen.oval(0.15, 0.86, 0.15, 0.14, "dark")
    pen.oval(0.15, 0.86, 0.06, 0.06, "light")
    pen.rect(0.3, 0.62, 0.46, 0.72, "light", spare=True)


def light(pen: Pen) -> None:
    """A lamp: flared shade, stem, foot."""
    pen.rect(0.45, 0.48, 0.55, 0.95, "dark")
    pen.oval(0.5, 0.94, 0.3, 0.06, "dark")
    pen.poly([(0.28, 0.0), (0.72, 0.0), (1.0, 0.52), (0.0, 0.52)], "main")
    pen.rect(0.0, 0.48, 1.0, 0.56, "second", spare=True)
    pen.poly([(0.4, 0.05), (0.5, 0.05), (0.42, 0.46), (0.24, 0.46)], "light", spare=True)


def floor(pen: Pen) -> None:
    """A tiled patch in perspective."""
    pen.poly([(0.14, 0.0), (0.86, 0.0), (1.0, 1.0), (0.0, 1.0)], "main")
    for row in range(3):
        for column in range(7):
            if (row + column) % 2:
                continue
            top, bottom = (0.0, 0.22, 0.53, 1.0)[row], (0.0, 0.22, 0.53, 1.0)[row + 1]
            left = [0.14 * (1 - y) + column / 7 * (0.72 + 0.28 * y) for y in (top, bottom)]
            right = [0.14 * (1 - y) + (column + 1) / 7 * (0.72 + 0.28 * y) for y in (top, bottom)]
            pen.poly([(left[0], top), (right[0], top), (right[1], bottom), (left[1], bottom)], "second", spare=True)

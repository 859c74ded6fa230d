"""Draws the graph of one moment: subjects on the left, things on the right, predicates on the arrows between them."""

from __future__ import annotations

import math
from collections.abc import Collection

import networkx as nx
from PIL import Image, ImageDraw

from service.rendering.drawing import Moment
from service.rendering.tags import (
    Rectangle,
    Style,
    color_of,
    draw_tag,
    draw_text,
    find_room,
    name_of,
    words_of,
)

_PAPER, _INK, _LINE = (255, 255, 255), (30, 30, 30), (140, 140, 140)
_LABELS_AT = (0.6, 0.5, 0.7, 0.4, 0.3)
"""Places for a label along an arrow from left to right: near the things, where arrows lie further apart."""

Point = tuple[float, float]


def draw_diagram(moment: Moment, subjects: Collection[str], *, height: int, style: Style) -> Image.Image:
    """The graph as a picture of at least `height` pixels, as wide as its names and labels need.

    All predicates from one object to another share an arrow. Every object of the moment is a node, whether or not
    something holds for it.

    subjects: labels of those that stand on the left.
    """
    objects = {thing.id: thing for thing in moment.objects}
    is_left = {identity: thing.label in subjects for identity, thing in objects.items()}
    graph = _graph(moment)
    layers = _layers(graph, is_left)
    names = {identity: style.width_of(name_of(thing)) for identity, thing in objects.items()}
    widest_left = max((names[identity] for identity in names if is_left[identity]), default=0)
    widest_right = max((names[identity] for identity in names if not is_left[identity]), default=0)
    widest = max((style.width_of(label) for *_, label in graph.edges(data="label")), default=0)
    margin, gap = 2 * style.row, widest + 6 * style.row
    # Two arrows, there and back, lie between a subject and a thing, each with a label.
    step = 4 * style.row
    height = max(height, step * (1 + max(map(len, layers.values()), default=0)))
    image = Image.new("RGB", (margin + widest_left + gap + widest_right + margin, height), _PAPER)
    draw = ImageDraw.Draw(image)

    # The layer with the most nodes takes all of the height, from -1 to 1; the other one is in its middle.
    layout = nx.multipartite_layout(graph, subset_key=layers)
    middle = {identity: height / 2 + float(y) * (height - 1.5 * step) / 2 for identity, (_, y) in layout.items()}
    left = {identity: margin if is_left[identity] else margin + widest_left + gap for identity in graph}
    arrows = []
    for subject, thing, label in graph.edges(data="label"):
        forward = left[subject] <= left[thing]
        shift = -0.6 * style.row if forward else 0.6 * style.row
        start = (left[subject] + names[subject] if forward else left[subject], middle[subject] + shift)
        end = (left[thing] if forward else left[thing] + names[thing], middle[thing] + shift)
        _draw_arrow(draw, start, end, style)
        arrows.append((start, end, label))
    taken: list[Rectangle] = []
    for identity, thing in objects.items():
        top = middle[identity] - style.row / 2
        taken.append((left[identity], top, left[identity] + names[identity], top + style.row))
        draw_tag(draw, left[identity], top, name_of(thing), color_of(identity), style)
    for start, end, label in arrows:
        place = find_room(_along(start, end, style.width_of(label), style.row), taken)
        draw.rectangle(place, fill=_PAPER)
        draw_text(draw, place[0], place[1], label, _INK, style)
        taken.append(place)
    return image


def _graph(moment: Moment) -> nx.DiGraph:
    """The objects, with an edge and its `label` wherever something holds from one to another."""
    graph = nx.DiGraph()
    graph.add_nodes_from(thing.id for thing in moment.objects)
    for triplet in moment.triplets:  # best first
        subject, thing, said = triplet.subject, triplet.object, words_of(triplet.predicate)
        if graph.has_edge(subject, thing):
            said = f"{graph.edges[subject, thing]['label']}, {said}"
        graph.add_edge(subject, thing, label=said)
    return graph


def _layers(graph: nx.DiGraph, is_left: dict[int, bool]) -> dict[int, list[int]]:
    """The subjects, and the things in the order of the subjects that they are related to; layers that are not empty."""
    subjects = [identity for identity in graph if is_left[identity]]

    def mean_row(identity: int) -> float:
        rows = [row for row, subject in enumerate(subjects) if _are_related(graph, identity, subject)]
        return sum(rows) / len(rows) if rows else len(subjects)

    things = sorted((identity for identity in graph if not is_left[identity]), key=mean_row)
    return {index: layer for index, layer in enumerate((subjects, things)) if layer}


def _are_related(graph: nx.DiGraph, one: int, other: int) -> bool:
    return bool(graph.has_edge(one, other) or graph.has_edge(other, one))


def _draw_arrow(draw: ImageDraw.ImageDraw, start: Point, end: Point, style: Style) -> None:
    draw.line((start, end), fill=_LINE, width=style.line)
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    length = style.letters * 0.7
    sides = [
        (end[0] - length * math.cos(angle + turn), end[1] - length * math.sin(angle + turn)) for turn in (-0.4, 0.4)
    ]
    draw.polygon([end, *sides], fill=_LINE)


def _along(start: Point, end: Point, width: int, height: int) -> list[Rectangle]:
    """Places for the label of an arrow, on it."""
    (x1, y1), (x2, y2) = sorted((start, end))
    places = []
    for share in _LABELS_AT:
        left, top = x1 + share * (x2 - x1) - width / 2, y1 + share * (y2 - y1) - height / 2
        places.append((left, top, left + width, top + height))
    return places

"""Boxes and triplets of any moment of a video, and how they are drawn on its picture."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from models.graph.scene_graph import Box, Frame, SceneGraph, SceneObject, Triplet
from service.rendering.tags import (
    Rectangle,
    Style,
    color_of,
    draw_tag,
    draw_text,
    find_room,
    name_of,
    overlap,
    words_of,
)

_ROUNDING = 0.001
"""Containers round times, so a frame of the video counts as the sampled one within a millisecond."""
_TEXT_HEIGHT = 0.4
"""Most of the picture's height that the lines of text take."""
_TEXT_WIDTH = 0.4
"""Of the picture's width, that they take more or less."""
_GROUND = (0, 0, 0, 150)
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Moment:
    """Objects and triplets at one time. The scores are those of the last sampled frame."""

    objects: list[SceneObject]
    triplets: list[Triplet]


class Timeline:
    """The moments of one graph.

    Between two sampled frames the box of an object that both of them show moves evenly from one to the other.
    Everything else holds until the next sampled frame. Before the first one there is nothing; the last one holds for
    one sampling interval.
    """

    def __init__(self, graph: SceneGraph) -> None:
        self._frames = graph.frames
        self._times = [frame.timestamp for frame in graph.frames]
        self._interval = 1.0 / graph.options.fps

    def at(self, time: float) -> Moment:
        """The moment at `time`, in seconds."""
        index = bisect_right(self._times, time + _ROUNDING) - 1
        if index < 0:
            return Moment([], [])
        frame = self._frames[index]
        if index + 1 < len(self._frames):
            return Moment(_moved(frame, self._frames[index + 1], time), frame.triplets)
        if time > frame.timestamp + self._interval - _ROUNDING:
            return Moment([], [])
        return Moment(frame.objects, frame.triplets)


def _moved(frame: Frame, following: Frame, time: float) -> list[SceneObject]:
    share = max(0.0, (time - frame.timestamp) / (following.timestamp - frame.timestamp))
    ends = {thing.id: thing.box for thing in following.objects}
    return [
        thing.model_copy(update={"box": _between(thing.box, ends.get(thing.id, thing.box), share)})
        for thing in frame.objects
    ]


def _between(start: Box, end: Box, share: float) -> Box:
    x1, y1, x2, y2 = (a + share * (b - a) for a, b in zip(start, end, strict=True))
    return x1, y1, x2, y2


@dataclass(frozen=True)
class Corner:
    """A corner of the picture; by default the upper left one."""

    right: bool = False
    bottom: bool = False


def quietest_corner(graph: SceneGraph) -> Corner:
    """The corner with the fewest boxes over the whole video, so that the lines of text need not move."""
    width, height = graph.video.width, graph.video.height

    def seen(corner: Corner) -> float:
        left, top = corner.right * (1 - _TEXT_WIDTH) * width, corner.bottom * (1 - _TEXT_HEIGHT) * height
        place = (left, top, left + _TEXT_WIDTH * width, top + _TEXT_HEIGHT * height)
        return sum(overlap(place, thing.box) for frame in graph.frames for thing in frame.objects)

    return min((Corner(right, bottom) for bottom in (True, False) for right in (False, True)), key=seen)


def draw_moment(image: Image.Image, moment: Moment, *, scale: int = 1, text: Corner | None = None) -> None:
    """Draws on an RGB picture, which is `scale` times as large as the video.

    An outline lies inside its box, whose corner x1, y1 is the corner of the outline. Of the triplets as many are
    listed in the corner `text`, best first, as two fifths of the height hold; without it none.
    """
    style = Style.of(image.width, image.height)
    draw = ImageDraw.Draw(image, "RGBA")
    objects = sorted(moment.objects, key=lambda thing: -_area(thing.box))  # the small ones are drawn over the large
    boxes = [_pixels(thing.box, scale) for thing in objects]
    lines = _lines(moment)
    taken = [_draw_lines(draw, image.size, lines, text, style)] if text is not None and lines else []
    for thing, box in zip(objects, boxes, strict=True):
        draw.rectangle(box, outline=color_of(thing.id), width=style.line)
    for thing, box in zip(objects, boxes, strict=True):
        name = name_of(thing)
        place = find_room(_places(box, style.width_of(name), style.row, image.size), taken)
        draw_tag(draw, place[0], place[1], name, color_of(thing.id), style)
        taken.append(place)


def _pixels(box: Box, scale: int) -> tuple[int, int, int, int]:
    """The first and the last column and row of a box; at least one of each."""
    left, top, right, bottom = (round(scale * side) for side in box)
    return left, top, max(left, right - 1), max(top, bottom - 1)


def _places(box: Rectangle, width: int, height: int, size: tuple[int, int]) -> Iterator[Rectangle]:
    """Places for the name of a box, the best first; always in the picture."""
    left, top, right, bottom = box
    for x, y in (
        (left, top - height),
        (right + 1 - width, top - height),
        (left, bottom + 1),
        (left, top),
        (right + 1 - width, top),
        (left, bottom + 1 - height),
        (right + 1 - width, bottom + 1 - height),
        (right + 1, top),
        (left - width, top),
        (left, top - 2 * height),
        (left, bottom + 1 + height),
    ):
        inside_x = max(0, min(round(x), size[0] - width))
        inside_y = max(0, min(round(y), size[1] - height))
        yield inside_x, inside_y, inside_x + width, inside_y + height


def _lines(moment: Moment) -> list[tuple[SceneObject, Triplet, SceneObject]]:
    objects = {thing.id: thing for thing in moment.objects}
    return [(objects[triplet.subject], triplet, objects[triplet.object]) for triplet in moment.triplets]


def _draw_lines(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    lines: Sequence[tuple[SceneObject, Triplet, SceneObject]],
    corner: Corner,
    style: Style,
) -> Rectangle:
    """Lists triplets in a corner; returns what they cover."""
    step = style.row + 1
    shown = lines[: max(1, int(_TEXT_HEIGHT * size[1] / step))]
    width = min(size[0], max(_width(*line, style) for line in shown) + 2)
    height = step * len(shown) + 1
    begin = corner.right * (size[0] - width), corner.bottom * (size[1] - height)
    draw.rectangle((*begin, begin[0] + width - 1, begin[1] + height - 1), fill=_GROUND)
    for row, (subject, triplet, thing) in enumerate(shown):
        left, top = begin[0] + 1, begin[1] + 1 + row * step
        left = draw_tag(draw, left, top, name_of(subject), color_of(subject.id), style)
        left = draw_text(draw, left, top, words_of(triplet.predicate), _WHITE, style)
        left = draw_tag(draw, left, top, name_of(thing), color_of(thing.id), style)
        score = f"{triplet.score:.2f}"
        if left + style.width_of(score) <= size[0]:
            draw_text(draw, left, top, score, _WHITE, style)
    return (*begin, begin[0] + width, begin[1] + height)


def _width(subject: SceneObject, triplet: Triplet, thing: SceneObject, style: Style) -> int:
    texts = (name_of(subject), words_of(triplet.predicate), name_of(thing), f"{triplet.score:.2f}")
    return sum(map(style.width_of, texts))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])

"""Tags: names and words as they are written on a picture, their colours, and where they find room."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from models.graph.scene_graph import SceneObject

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

_GOLDEN = 0.618033988749895
"""Steps of the golden ratio around the circle of hues keep apart colours of ids that are close, however many."""
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_OTHER_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arialuni.ttf",
    "msgothic.ttc",
)
"""For letters that the library's font lacks, which has hardly more than ASCII."""
_NO_LETTER = "\uffff"


def color_of(identity: int) -> Color:
    """The colour of an object, by its id: the same in every frame and every picture of a graph."""
    red, green, blue = colorsys.hsv_to_rgb((identity * _GOLDEN) % 1.0, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def text_color(background: Color) -> Color:
    """Black or white, whichever has more contrast; it is 4.5 to 1 or more on any colour."""
    red, green, blue = (_linear(channel / 255) for channel in background)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return _BLACK if (luminance + 0.05) ** 2 > 0.05 * 1.05 else _WHITE


def name_of(thing: SceneObject) -> str:
    """The name of an object in a picture: "cup 3", where the label is "cup/glass/bottle"."""
    first = thing.label.partition("/")[0].strip()
    return f"{first or thing.label} {thing.id}"


def words_of(predicate: str) -> str:
    """A predicate as it is read."""
    return predicate.replace("_", " ")


@dataclass(frozen=True)
class Style:
    """Sizes in pixels.

    letters: size of the font.
    line: width of lines.
    """

    letters: int
    line: int

    @classmethod
    def of(cls, width: int, height: int) -> Style:
        """Sizes that can be read on a picture of this size without hiding it."""
        side = min(width, height)
        return cls(letters=max(10, round(side / 36)), line=max(2, round(side / 240)))

    @property
    def row(self) -> int:
        """Height of a tag."""
        return _written("", self.letters).height

    def width_of(self, text: str) -> int:
        """Width of a tag."""
        return _written(text, self.letters).width


def draw_tag(draw: ImageDraw.ImageDraw, left: float, top: float, text: str, color: Color, style: Style) -> int:
    """Draws a text on a ground of its colour; returns the first column to its right."""
    left, top = round(left), round(top)
    draw.rectangle((left, top, left + style.width_of(text) - 1, top + style.row - 1), fill=color)
    return draw_text(draw, left, top, text, text_color(color), style)


def draw_text(draw: ImageDraw.ImageDraw, left: float, top: float, text: str, color: Color, style: Style) -> int:
    """Draws a text where a tag would have it; returns the first column to its right."""
    draw.bitmap((round(left), round(top)), _written(text, style.letters), fill=color)
    return round(left) + style.width_of(text)


def find_room(places: Iterable[Rectangle], taken: Sequence[Rectangle]) -> Rectangle:
    """The first of the places that is free, else the one that covers least of what is taken."""
    best, least = (0.0, 0.0, 0.0, 0.0), float("inf")
    for place in places:
        covered = sum(overlap(place, other) for other in taken)
        if covered < least:
            best, least = place, covered
        if covered == 0:
            break
    return best


def overlap(one: Rectangle, other: Rectangle) -> float:
    """The area that two rectangles share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


# The same few words are drawn on every frame of a video.
@lru_cache(maxsize=4096)
def _written(text: str, letters: int) -> Image.Image:
    """A mask of the text, as large as a tag."""
    font, padding = _font_for(text, letters), max(1, letters // 5)
    # As high whatever the font, since tags stand in rows.
    size = round(font.getlength(text)) + 2 * padding, sum(_font(letters).getmetrics()) + padding
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).text((padding, size[1] / 2), text, fill=255, font=font, anchor="lm")
    return mask


@lru_cache(maxsize=16)
def _font(letters: int) -> ImageFont.FreeTypeFont:
    """The font that comes with the library, so that every machine draws alike."""
    font = ImageFont.load_default(letters)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType; install its wheel")
    return font


def _font_for(text: str, letters: int) -> ImageFont.FreeTypeFont:
    """The library's font, or where that lacks a letter, a font of this machine that has all of them."""
    own = _font(letters)
    if text.isascii():
        return own
    installed = (_installed_font(name, letters) for name in _OTHER_FONTS)
    return next((font for font in installed if font is not None and _has_all(font, text)), own)


@lru_cache(maxsize=64)
def _installed_font(name: str, letters: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, letters)
    except OSError:
        return None


def _has_all(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether no letter is drawn as the box that stands for a missing one."""
    missing = bytes(font.getmask(_NO_LETTER))
    return all(bytes(font.getmask(letter)) != missing for letter in set(text) - {" "})


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)

"""Boxes, names and lines of text on a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.graph.scene_graph import Box, SceneObject
from models.graph.vocabulary import ACTION_GENOME
from service.rendering import drawing, tags
from service.rendering.diagram import draw_diagram
from service.rendering.drawing import Corner, Moment, draw_moment, quietest_corner
from service.rendering.tags import Style, color_of, draw_tag, find_room, name_of, overlap, text_color
from tests.support.graphs import frame, scene_graph

PERSON: Box = (100.0, 60.0, 180.0, 220.0)
SUBJECTS = ACTION_GENOME.subjects


def drawn(moment: Moment, *, scale: int = 1, text: Corner | None = None) -> np.ndarray:
    image = Image.new("RGB", (320 * scale, 240 * scale), (128, 128, 128))
    draw_moment(image, moment, scale=scale, text=text)
    return np.asarray(image)


def moment(*things: tuple[int, str, Box], held: list[tuple[int, str, int]] | None = None) -> Moment:
    known = frame(0, 0.0, things, held or [])
    return Moment(known.objects, known.triplets)


@pytest.mark.parametrize("scale", [1, 3])
def test_an_outline_has_the_corners_of_its_box(scale: int) -> None:
    image = drawn(moment((1, "person", PERSON)), scale=scale)
    rows, columns = np.nonzero((image == color_of(1)).all(axis=2))
    below = rows >= scale * PERSON[1]  # above it stands the name
    assert (columns.min(), rows[below].min()) == (scale * 100, scale * 60)
    assert (columns.max(), rows.max()) == (scale * 180 - 1, scale * 220 - 1)
    assert (image[scale * 140, scale * 140] == 128).all(), "nothing covers the person"


def test_a_name_stands_above_its_box_and_inside_where_there_is_no_room() -> None:
    above = drawn(moment((1, "person", PERSON)))
    assert (above == color_of(1)).all(axis=2)[48:59, 100:130].mean() > 0.5
    inside = drawn(moment((1, "person", (0.0, 0.0, 320.0, 240.0))))
    assert (inside != 128).any(axis=2)[3:12, 3:60].mean() > 0.6


def test_names_of_things_in_one_place_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []

    def note(draw: object, left: float, top: float, text: str, color: object, style: Style) -> None:
        places.append((left, top, left + style.width_of(text), top + style.row))

    monkeypatch.setattr(drawing, "draw_tag", note)
    drawn(moment(*((id, "cup/glass/bottle", (150.0, 100.0, 170.0, 120.0)) for id in range(1, 5))))
    assert len(places) == 4
    assert all(overlap(a, b) == 0 for a in places for b in places if a is not b)
    assert all(left >= 0 and top >= 0 and right <= 320 and bottom <= 240 for left, top, right, bottom in places)


@pytest.mark.parametrize(
    ("box", "corner"),
    [
        ((0.0, 0.0, 1.0, 1.0), Corner(bottom=True)),
        ((0.0, 0.0, 160.0, 240.0), Corner(bottom=True, right=True)),
        ((0.0, 120.0, 320.0, 240.0), Corner()),
    ],
)
def test_triplets_are_listed_in_the_corner_with_the_fewest_boxes(box: Box, corner: Corner) -> None:
    assert quietest_corner(scene_graph([frame(0, 0.0, [(1, "person", box)])], size=(320, 240))) == corner


def test_as_many_triplets_are_listed_as_two_fifths_of_the_picture_hold() -> None:
    cup = (2, "cup/glass/bottle", (20.0, 180.0, 60.0, 220.0))
    shown = moment((1, "person", PERSON), cup, held=[(1, "touching", 2)] * 40)
    rows, columns = np.nonzero((drawn(shown, text=Corner(right=True)) != drawn(shown)).any(axis=2))
    assert rows.min() == 0
    assert 0.3 * 240 < rows.max() < 0.42 * 240
    assert 150 < columns.min() < columns.max() == 319


def test_every_name_can_be_read_on_its_colour() -> None:
    def luminance(color: tuple[int, int, int]) -> float:
        channels = np.array(color) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for identity in range(1, 200):
        pair = sorted((luminance(color_of(identity)), luminance(text_color(color_of(identity)))))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5


def test_ids_that_are_close_have_colours_that_are_not() -> None:
    colors = np.array([color_of(identity) for identity in range(1, 7)], dtype=float)
    distances = np.abs(colors[:, None] - colors[None]).sum(axis=2)
    assert distances[~np.eye(len(colors), dtype=bool)].min() > 60


def test_the_place_that_covers_least_is_taken_where_none_is_free() -> None:
    taken = [(0.0, 0.0, 10.0, 10.0)]
    assert find_room([(5, 5, 15, 15), (8, 8, 18, 18)], taken) == (8, 8, 18, 18)
    assert find_room([(5, 5, 15, 15), (10, 0, 20, 10), (40, 40, 50, 50)], taken) == (10, 0, 20, 10)


def test_the_diagram_has_a_node_for_every_object_and_grows_with_them() -> None:
    style = Style.of(480, 480)
    things = [(id, ACTION_GENOME.objects[id], PERSON) for id in range(2, 22)]
    held = [(1, "touching", 3), (1, "looking_at", 3), (3, "in_front_of", 1), (1, "holding", 9)]
    small = draw_diagram(moment((1, "person", PERSON), things[1], held=held[:3]), SUBJECTS, height=300, style=style)
    assert small.height == 300
    large = draw_diagram(moment((1, "person", PERSON), *things, held=held), SUBJECTS, height=300, style=style)
    assert large.height > 21 * style.row
    left = np.asarray(large)[:, : large.width // 2]
    right = np.asarray(large)[:, large.width // 2 :]
    assert (left == color_of(1)).all(axis=2).any(), "people stand on the left"
    for identity, *_ in things:
        assert (right == color_of(identity)).all(axis=2).any(), f"{identity} is missing"


@pytest.mark.parametrize("things", [[], [(1, "person", PERSON)], [(2, "chair", PERSON), (3, "bed", PERSON)]])
def test_a_moment_without_relations_has_a_diagram(things: list[tuple[int, str, Box]]) -> None:
    picture = np.asarray(draw_diagram(moment(*things), SUBJECTS, height=200, style=Style.of(200, 200)))
    for identity, *_ in things:
        assert (picture == color_of(identity)).all(axis=2).any()


def test_a_tag_is_as_large_as_it_says() -> None:
    style = Style.of(720, 720)
    image = Image.new("RGB", (200, 60))
    draw_tag(ImageDraw.Draw(image), 10, 20, "person 1", (200, 10, 10), style)
    rows, columns = np.nonzero((np.asarray(image) == (200, 10, 10)).all(axis=2))
    assert (columns.min(), rows.min()) == (10, 20)
    assert (columns.max() - 9, rows.max() - 19) == (style.width_of("person 1"), style.row)


@pytest.mark.parametrize("label", ["Träger", "ящик", "a b/c", "//", "x" * 200])
def test_any_label_can_be_drawn(label: str) -> None:
    thing = SceneObject(id=7, label=label, score=0.9, box=PERSON)
    style = Style.of(480, 480)
    assert (drawn(Moment([thing], [])) != 128).any()
    diagram = draw_diagram(Moment([thing], []), [label], height=200, style=style)
    assert (np.asarray(diagram) == color_of(7)).all(axis=2).any()
    assert style.width_of(name_of(thing)) <= diagram.width


def test_letters_that_the_usual_font_lacks_are_drawn_in_one_that_has_them() -> None:
    if tags._installed_font("DejaVuSans.ttf", 20) is None:
        pytest.skip("DejaVu Sans is not installed")
    words = [np.asarray(tags._written(text, 20)) for text in ("ящик", "щящя")]
    assert (words[0][:, :60] != words[1][:, :60]).any(), "not every letter is the same box"
    assert words[0].shape[0] == np.asarray(tags._written("crate", 20)).shape[0], "tags stand in rows of one height"

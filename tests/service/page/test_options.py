"""What the page offers before a video is chosen, and names of what it shows, used in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server
from tests.service.page.browser import OpenPage, Visit

Box = dict[str, float]

BOXES = "nodes => nodes.map(node => node.getBoundingClientRect().toJSON())"
NAME_PLACES = """async frame => {
    const { namePlaces } = await import(new URL("page/overlay.js", document.baseURI));
    const { Scene } = await import(new URL("page/scene.js", document.baseURI));
    const scene = new Scene(frame.graph);
    const places = namePlaces(overlay.getContext("2d"), scene, frame.frame, overlay.clientWidth, overlay.clientHeight);
    return [...places.values()].map(({ x, y, width, height }) =>
        ({ left: x, top: y, right: x + width, bottom: y + height }));
}"""


def test_every_option_that_people_use_is_sent(open_page: OpenPage, server: Server, clip: Path) -> None:
    visit = open_page(server)
    page = visit.page
    page.get_by_text("Options").click()
    page.get_by_label("Frames per second").fill("10")
    page.get_by_label("Begin at second").fill("0.5")
    page.get_by_label("End at second").fill("1.5")
    page.get_by_label("Most frames").fill("7")
    page.get_by_label("Triplets scored at least").fill("0.6")
    graph = visit.open(clip)
    options = {name: graph["options"][name] for name in ("fps", "start", "end", "max_frames", "min_score")}
    assert options == {"fps": 10, "start": 0.5, "end": 1.5, "max_frames": 7, "min_score": 0.6}
    assert len(graph["frames"]) == 7
    assert all(triplet["score"] >= 0.6 for frame in graph["frames"] for triplet in frame["triplets"])


def test_options_that_are_left_empty_are_the_services_defaults(open_page: OpenPage, server: Server, clip: Path) -> None:
    visit = open_page(server)
    visit.page.get_by_text("Options").click()
    visit.page.get_by_label("Frames per second").fill("")
    graph = visit.open(clip)
    assert graph["options"] == server.post(clip).json()["options"]


def test_an_option_that_cannot_be_used_shows_the_services_problem(
    open_page: OpenPage, server: Server, clip: Path
) -> None:
    problem = server.post(clip, data={"start": "2", "end": "1", "fps": "2"}).json()
    visit = open_page(server)
    visit.page.get_by_text("Options").click()
    visit.page.get_by_label("Begin at second").fill("2")
    visit.page.get_by_label("End at second").fill("1")
    visit.choose(clip)
    assert visit.shown_problem() == [problem["title"], problem["detail"]]


def test_formats_and_limits_are_named(open_page: OpenPage, start_server: Callable[..., Server]) -> None:
    visit = open_page(start_server(max_body_bytes=12_300_000, max_fps=30, max_frames=500))
    limits = visit.page.locator("#limits")
    limits.get_by_text("up to 12.3 MB").wait_for()
    for name in ("MP4", "MOV", "MKV", "WebM", "AVI", "TS", "FLV", "Ogg", "GIF"):
        assert name in limits.inner_text()
    visit.page.get_by_text("Options").click()
    assert visit.page.get_by_text("At most 30 frames per second, and 500 frames of a video, are read.").is_visible()


def crowded(things: int, predicates: int) -> dict[str, Any]:
    """A graph whose one frame has many things in one place, each in several relations with both subjects."""
    labels = ["person", "cup/glass/bottle", "closet/cabinet", "phone/camera", "refrigerator", "paper/notebook"]
    objects = [
        {"id": index + 1, "label": labels[0 if index < 2 else 1 + index % 5], "score": 0.9, "box": [20, 20, 60, 60]}
        for index in range(things + 2)
    ]
    names = ["looking_at", "not_contacting", "other_relationship"][:predicates]
    triplets = [
        {"subject": 1 + thing["id"] % 2, "predicate": name, "object": thing["id"], "group": "all", "score": 0.9}
        for thing in objects[2:]
        for name in names
    ]
    return {
        "id": "0",
        "video": {"width": 64, "height": 48, "duration": 2.0, "codec": "h264"},
        "model": {"name": "tiny", "engine": "stub"},
        "options": {"fps": 2},
        "vocabulary": {
            "subjects": ["person"],
            "groups": [{"name": "all", "predicates": names, "direction": "subject_to_object"}],
        },
        "frames": [
            {
                "index": 0,
                "timestamp": 0.0,
                "objects": objects,
                "triplets": [{**triplet, "predicate_score": 0.9, "relation_score": None} for triplet in triplets],
            }
        ],
        "relations": [],
        "prompt": "",
        "warnings": [],
    }


def assert_apart(boxes: list[Box]) -> None:
    """No two of these boxes on the screen overlap by more than half a pixel."""
    for one, other in combinations(boxes, 2):
        across = min(one["right"], other["right"]) - max(one["left"], other["left"])
        down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
        assert across < 0.5 or down < 0.5, (one, other)


def assert_names_apart(visit: Visit, graph: dict[str, Any], frame: dict[str, Any]) -> None:
    assert_apart(visit.page.eval_on_selector_all(".node rect, .labels tspan", BOXES))
    assert_apart(visit.page.eval_on_selector_all(".ticks span", BOXES))
    assert_apart(visit.page.evaluate(NAME_PLACES, {"graph": graph, "frame": frame}))


@pytest.mark.parametrize("width", [390, 320, 1180])
def test_names_do_not_cover_each_other(open_page: OpenPage, puppet_server: Server, sample: Path, width: int) -> None:
    visit = open_page(puppet_server, viewport={"width": width, "height": 844})
    graph = visit.open(sample)
    for frame in graph["frames"]:
        visit.seek(frame["timestamp"])
        assert visit.page.locator(".node").count() == len(frame["objects"])
        assert_names_apart(visit, graph, frame)
    assert visit.page.evaluate("() => document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("things", "predicates"), [(3, 3), (6, 2), (8, 3)])
def test_names_of_many_things_do_not_cover_each_other(
    open_page: OpenPage, server: Server, clip: Path, things: int, predicates: int
) -> None:
    graph = crowded(things, predicates)
    visit = open_page(server, viewport={"width": 390, "height": 844})
    visit.page.route("**/videos/*", lambda route: route.fulfill(json=graph))
    visit.open(clip)
    visit.settle()
    assert visit.page.locator(".labels tspan").count() == things * predicates
    assert_names_apart(visit, graph, graph["frames"][0])

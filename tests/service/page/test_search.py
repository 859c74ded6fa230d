"""The search box of the page, in a real browser: a query, a click, the frame with its boxes."""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import Server, serve
from tests.service.page.browser import OpenPage, Visit
from tests.service.page.test_page import assert_drawn, boxes_on, nearest
from tests.support.paths import ROOT

QUERY = "person a sitting_on chair for 500ms"


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the bundled model, and keeps an archive and four frames of every graph."""
    settings = {"archive": str(tmp_path_factory.mktemp("archive") / "graphs"), "keep_frames": 4}
    with serve(tmp_path_factory.mktemp("data"), bundles=(ROOT / "bundles" / "arn-compact",), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def graph(archived: Server, sample: Path) -> dict[str, Any]:
    """The graph of the sample video, which was posted some time ago."""
    posted: dict[str, Any] = archived.post(sample).json()
    return posted


def ask(visit: Visit, query: str) -> None:
    visit.page.fill("#query", query)
    visit.page.press("#query", "Enter")


def choose(visit: Visit, number: int) -> None:
    """Clicks a moment, and waits until its graph is shown."""
    visit.page.locator("#moments button").nth(number).click()
    visit.page.wait_for_selector("#result:not([hidden])")
    visit.settle()


def still(visit: Visit) -> NDArray[np.uint8] | None:
    """Height x width x RGB of the kept frame that stands for the video; None where none is seen."""
    if not visit.page.locator("#still").is_visible():
        return None
    visit.until("() => still.complete && still.naturalWidth > 0")
    address = visit.page.evaluate(
        "() => { const canvas = document.createElement('canvas');"
        " canvas.width = still.naturalWidth; canvas.height = still.naturalHeight;"
        " canvas.getContext('2d').drawImage(still, 0, 0); return canvas.toDataURL(); }"
    )
    return np.asarray(Image.open(io.BytesIO(b64decode(address.partition(",")[2]))).convert("RGB"))


def test_a_query_and_a_click_show_the_right_frame_with_its_boxes(
    open_page: OpenPage, archived: Server, graph: dict[str, Any]
) -> None:
    def kept_index(moment: dict[str, Any]) -> int:
        return int(moment["picture"].rpartition("/")[2].removesuffix(".jpg"))

    def has_picture(moment: dict[str, Any]) -> bool:
        return bool(moment["start"] <= graph["frames"][kept_index(moment)]["timestamp"] < moment["end"])

    for predicate, pictured in (("looking_at", True), ("not_looking_at", False)):
        query = f"person a {predicate} anything"
        moments = archived.client.get("/search", params={"q": query}).json()["moments"]
        assert {moment["video"] for moment in moments} == {graph["id"]}
        number = list(map(has_picture, moments)).index(pictured)
        moment = moments[number]
        visit = open_page(archived)
        ask(visit, query)
        choose(visit, number)
        assert moment["start"] <= visit.seconds() < moment["end"]
        frame = nearest(graph, visit.seconds())
        thing = moment["relations"][0]["object"]
        said = {"subject": moment["objects"]["a"], "predicate": predicate, "object": thing}
        assert any(said.items() <= triplet.items() for triplet in frame["triplets"])
        assert_drawn(visit.drawn(), boxes_on(visit.drawn(), graph, frame))
        assert not visit.page.locator("#video").is_visible(), "the browser has no video"
        picture = still(visit)
        if not pictured:
            assert visit.seconds() == pytest.approx(moment["start"], abs=0.01)
            assert picture is None
            continue
        assert frame["index"] == kept_index(moment)
        kept = Image.open(io.BytesIO(archived.client.get(moment["picture"]).content)).convert("RGB")
        assert picture is not None
        assert np.abs(picture.astype(int) - np.asarray(kept).astype(int)).max() <= 4


def test_kept_frames_are_shown_at_their_own_time_only(
    open_page: OpenPage, archived: Server, graph: dict[str, Any]
) -> None:
    visit = open_page(archived)
    ask(visit, QUERY)
    choose(visit, 0)
    times = [graph["frames"][index]["timestamp"] for index in graph["kept_frames"]]
    buttons = visit.page.locator("#stills button")
    assert buttons.count() == len(times) > 1
    pictures = []
    for number, time in enumerate(times):
        buttons.nth(number).click()
        visit.settle()
        assert visit.seconds() == pytest.approx(time, abs=0.01)
        visit.page.wait_for_selector("#still:not([hidden])")
        pictures.append(still(visit))
        assert_drawn(visit.drawn(), boxes_on(visit.drawn(), graph, nearest(graph, time)))
    assert any((first != second).any() for first, second in pairwise(pictures))
    other = next(frame["timestamp"] for frame in graph["frames"] if frame["index"] not in graph["kept_frames"])
    visit.seek(other)
    assert still(visit) is None


def test_a_moment_of_the_video_that_is_open_moves_the_video_itself(
    open_page: OpenPage, archived: Server, sample: Path
) -> None:
    visit = open_page(archived)
    opened = visit.open(sample)
    ask(visit, QUERY)
    moments = archived.client.get("/search", params={"q": QUERY}).json()["moments"]
    number = [moment["video"] for moment in moments].index(opened["id"])
    choose(visit, number)
    moment = moments[number]
    assert visit.page.locator("#video").is_visible()
    assert moment["start"] <= visit.seconds() < moment["end"] + 0.01
    assert visit.page.evaluate("() => video.currentTime") == pytest.approx(visit.seconds(), abs=0.05)
    assert_drawn(visit.drawn(), boxes_on(visit.drawn(), opened, nearest(opened, visit.seconds())))


def test_a_wrong_query_is_told_with_its_place(open_page: OpenPage, archived: Server, graph: dict[str, Any]) -> None:
    visit = open_page(archived)
    ask(visit, "person holds cup")
    title, detail = visit.shown_problem()
    assert "understood" in title
    assert "'holds' is not a known predicate" in detail
    assert visit.page.evaluate("() => query.value.slice(query.selectionStart, query.selectionEnd)") == "holds cup"
    ask(visit, "person holding dish")
    visit.until("() => found.textContent === 'No moment was seen.'")
    assert not visit.page.get_by_role("alert").is_visible()


def test_the_search_box_is_there_where_there_is_an_archive(
    open_page: OpenPage, archived: Server, puppet_server: Server
) -> None:
    without, with_archive = open_page(puppet_server), open_page(archived)
    with_archive.page.wait_for_selector("#search:not([hidden])")
    without.until("() => largest.textContent !== ''")
    assert without.page.locator("#search").is_hidden()


def test_found_moments_can_be_used_by_everybody(open_page: OpenPage, archived: Server, graph: dict[str, Any]) -> None:
    visit = open_page(archived)
    ask(visit, QUERY)
    choose(visit, 0)
    assert Axe().run(visit.page).response["violations"] == []

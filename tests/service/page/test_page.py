"""The page, used by its own controls in a real browser."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from playwright.sync_api import FileChooser

from tests.conftest import Server
from tests.service.page.browser import OpenPage, Visit
from tests.support.videos import add_sound, make_audio, make_video
from tests.support.waiting import until

PERSON_COLOUR = (0xD9, 0x48, 0x0F)
LINE = 2
NAME = 44  # pixels above or below a box's upper edge that its name may take, also where it leaves room for another

Frame = dict[str, Any]


def nearest(graph: dict[str, Any], seconds: float) -> Frame:
    frame: Frame = min(graph["frames"], key=lambda frame: abs(frame["timestamp"] - seconds))
    return frame


def boxes_on(pixels: NDArray[np.uint8], graph: dict[str, Any], frame: Frame) -> NDArray[np.float64]:
    """The frame's boxes (objects, 4) in pixels of the canvas."""
    height, width = pixels.shape[:2]
    across, down = width / graph["video"]["width"], height / graph["video"]["height"]
    return np.array([thing["box"] for thing in frame["objects"]]).reshape(-1, 4) * [across, down, across, down]


def assert_drawn(pixels: NDArray[np.uint8], boxes: NDArray[np.float64]) -> None:
    """All of every box's outline is drawn, and beside outlines and names nothing is."""
    height, width = pixels.shape[:2]
    drawn = pixels[..., 3] > 0
    allowed = np.zeros((height, width), np.bool_)
    for left, top, right, bottom in boxes:
        # Where a box ends at the picture's edge, the middle of the line is the last pixel.
        columns = np.clip(np.arange(left, right).astype(int), 0, width - 1)
        rows = np.clip(np.arange(top, bottom).astype(int), 0, height - 1)
        x1, x2 = (min(max(round(x), 0), width - 1) for x in (left, right))
        y1, y2 = (min(max(round(y), 0), height - 1) for y in (top, bottom))
        assert drawn[y1, columns].all()
        assert drawn[y2, columns].all()
        assert drawn[rows, x1].all()
        assert drawn[rows, x2].all()
        band = slice(max(x1 - LINE, 0), x2 + LINE + 1), slice(max(y1 - LINE, 0), y2 + LINE + 1)
        allowed[band[1], max(x1 - LINE, 0) : x1 + LINE + 1] = True
        allowed[band[1], max(x2 - LINE, 0) : x2 + LINE + 1] = True
        allowed[max(y1 - LINE, 0) : y1 + LINE + 1, band[0]] = True
        allowed[max(y2 - LINE, 0) : y2 + LINE + 1, band[0]] = True
        allowed[max(y1 - NAME, 0) : y1 + NAME, :] = True
    assert not (drawn & ~allowed).any()


def test_boxes_of_the_sample_video_are_drawn_where_its_graph_says(
    open_page: OpenPage, puppet_server: Server, sample: Path
) -> None:
    visit = open_page(puppet_server)
    graph = visit.open(sample)
    seen = []
    for frame in graph["frames"][::5]:
        visit.seek(frame["timestamp"])
        pixels = visit.drawn()
        boxes = boxes_on(pixels, graph, frame)
        assert_drawn(pixels, boxes)
        left, _, right, bottom = boxes[[thing["label"] for thing in frame["objects"]].index("person")]
        # A line that lies between two pixels is half transparent in both, which rounds its colour: read the fuller one.
        across = pixels[round(bottom) - 1 : round(bottom) + 2, round((left + right) / 2)].astype(int)
        assert across[across[:, 3].argmax(), :3] == pytest.approx(PERSON_COLOUR, abs=4)
        seen.append(pixels)
    assert all((first != second).any() for first, second in pairwise(seen))


def test_while_the_video_plays_the_boxes_are_those_of_the_frame_nearest_to_its_picture(
    open_page: OpenPage, puppet_server: Server, sample: Path
) -> None:
    visit = open_page(puppet_server)
    graph = visit.open(sample)
    visit.page.click("#play")
    visit.until("() => Number(slider.value) > 1.1")
    visit.page.click("#play")
    visit.settle()
    pixels = visit.drawn()
    assert visit.seconds() == pytest.approx(visit.page.evaluate("() => video.currentTime"), abs=0.1)
    assert_drawn(pixels, boxes_on(pixels, graph, nearest(graph, visit.seconds())))


def test_a_picture_that_begins_after_the_sound_is_shown_with_its_own_boxes(
    open_page: OpenPage, puppet_server: Server, sample: Path, tmp_path: Path
) -> None:
    late = add_sound(sample, tmp_path / "late.mp4", seconds=14.0, delay=3.0)
    shown = []
    for path, start in ((sample, 0.0), (late, 3.0)):
        visit = open_page(puppet_server)
        graph = visit.open(path)
        assert graph["video"]["start"] == pytest.approx(start, abs=0.001)
        assert visit.seconds() == 0
        assert float(visit.page.get_attribute("#slider", "max") or 0) == 10
        for moment in (0.0, 5.0, 9.5):
            visit.seek(moment)
            assert_drawn(visit.drawn(), boxes_on(visit.drawn(), graph, nearest(graph, moment)))
            shown.append(visit.picture().astype(int))
    for early, same in zip(shown[:3], shown[3:], strict=True):
        assert np.abs(early - same).mean() < 2
    assert np.abs(shown[0] - shown[1]).mean() > 2, "the video does not change, so the test cannot fail"


def test_the_graph_of_the_moment_has_the_frames_things_and_triplets(
    open_page: OpenPage, puppet_server: Server, sample: Path
) -> None:
    visit = open_page(puppet_server)
    graph = visit.open(sample)
    names = {thing["id"]: thing["label"] for frame in graph["frames"] for thing in frame["objects"]}
    for frame in (graph["frames"][0], graph["frames"][-1]):
        visit.seek(frame["timestamp"])
        assert visit.nodes() == {thing["id"] for thing in frame["objects"]}
        said = [
            f"{names[triplet['subject']]} {triplet['predicate'].replace('_', ' ')} {names[triplet['object']]}"
            for triplet in frame["triplets"]
        ]
        assert visit.words() == said
        labels = visit.page.locator(".labels tspan").all_text_contents()
        assert sorted(labels) == sorted(triplet["predicate"].replace("_", " ") for triplet in frame["triplets"])


@pytest.mark.parametrize("press", ["click", "keyboard"])
def test_an_interval_goes_to_its_beginning(
    open_page: OpenPage, puppet_server: Server, sample: Path, press: str
) -> None:
    visit = open_page(puppet_server)
    graph = visit.open(sample)
    relation = max(graph["relations"], key=lambda relation: relation["start"])
    assert relation["start"] > 1
    interval = visit.page.locator(f".track button[aria-label*=' {relation['start']:.1f} to ']").first
    interval.click() if press == "click" else interval.press("Enter")
    visit.settle()
    assert visit.page.evaluate("() => video.currentTime") == pytest.approx(relation["start"], abs=0.05)
    assert nearest(graph, visit.seconds())["timestamp"] == relation["start"]


def test_filters_change_boxes_graph_and_timeline(open_page: OpenPage, server: Server, clip: Path) -> None:
    visit = open_page(server)
    graph = visit.open(clip)
    relations, frame = graph["relations"], graph["frames"][0]
    assert visit.page.locator(".track button").count() == len(relations)

    visit.page.get_by_role("checkbox", name="holding").uncheck()
    assert visit.page.locator(".track button").count() == len(relations) - 1
    assert "person holding cup/glass/bottle" not in visit.words()
    assert visit.nodes() == {1, 2, 3}

    visit.page.get_by_label("all of attention").uncheck()
    visit.page.get_by_label("all of spatial").uncheck()
    assert visit.words() == ["person sitting on chair"]
    assert visit.nodes() == {1, 3}
    pixels = visit.drawn()
    left = [thing for thing in frame["objects"] if thing["label"] != "cup/glass/bottle"]
    assert_drawn(pixels, boxes_on(pixels, graph, {**frame, "objects": left}))

    visit.page.get_by_label("Least score").fill("1")
    assert visit.page.locator(".track button").count() == 0
    assert not visit.drawn().any()
    assert visit.page.get_by_text("Nothing is shown at this moment.").is_visible()


def test_the_prompt_is_shown_and_copied(open_page: OpenPage, server: Server, clip: Path) -> None:
    visit = open_page(server, permissions=["clipboard-read", "clipboard-write"])
    graph = visit.open(clip)
    visit.page.get_by_role("button", name="Copy").click()
    visit.page.get_by_text("The prompt is copied").wait_for()
    assert visit.page.evaluate("() => navigator.clipboard.readText()") == graph["prompt"]


def test_a_file_that_is_not_a_video_shows_the_services_problem(
    open_page: OpenPage, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    problem = server.post(tmp_path / "notes.mp4").json()
    visit = open_page(server)
    visit.choose(tmp_path / "notes.mp4")
    assert visit.shown_problem() == [problem["title"], problem["detail"]]


def test_a_video_that_fails_later_shows_the_services_problem(
    open_page: OpenPage, server: Server, tmp_path: Path
) -> None:
    sound = make_audio(tmp_path / "sound.mp4", codec="aac")
    problem = server.post(sound).json()
    visit = open_page(server)
    visit.choose(sound)
    assert visit.shown_problem() == [problem["title"], problem["detail"]]


def test_progress_is_shown_and_a_job_can_be_cancelled(
    open_page: OpenPage, server: Server, long_clip: Path, slow_engine: None
) -> None:
    visit = open_page(server)
    with visit.page.expect_response(lambda response: response.request.method == "POST") as posted:
        visit.choose(long_clip)
    place = f"/videos/{posted.value.json()['id']}"
    visit.until("() => /Reading frames: [1-9]/.test(step.textContent) && progress.value > 0")
    visit.page.get_by_role("button", name="Cancel").click()
    visit.page.get_by_text("Drop a video here").wait_for()
    assert visit.page.get_by_role("status").inner_text() == "Cancelled"
    until(lambda: server.client.get(place).status_code == 404)


def test_a_video_can_be_dropped(open_page: OpenPage, server: Server, clip: Path) -> None:
    visit = open_page(server)
    dropped = visit.page.evaluate_handle(
        """bytes => { const data = new DataTransfer();
           data.items.add(new File([new Uint8Array(bytes)], "dropped.mp4")); return data; }""",
        list(clip.read_bytes()),
    )
    visit.page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    visit.page.get_by_role("heading", name="dropped.mp4").wait_for()
    visit.page.wait_for_selector("#result:not([hidden])")


def test_options_are_used(open_page: OpenPage, server: Server, clip: Path) -> None:
    visit = open_page(server)
    visit.page.get_by_text("Options").click()
    visit.page.select_option("#model", "tiny-2")
    visit.page.fill("#fps", "5")
    visit.page.select_option("#constraint", "no")
    graph = visit.open(clip)
    assert graph["model"]["name"] == "tiny-2"
    assert (graph["options"]["fps"], graph["options"]["constraint"]) == (5, "no")


def test_a_video_that_the_browser_cannot_play_still_has_its_graph(
    open_page: OpenPage, server: Server, tmp_path: Path
) -> None:
    visit = open_page(server)
    graph = visit.open(make_video(tmp_path / "old.avi", codec="mpeg4"))
    assert visit.page.get_by_text("This browser cannot play this video").is_visible()
    assert visit.page.get_by_role("button", name="Play").is_hidden()
    visit.page.fill("#slider", "1")
    assert len(visit.words()) == len(nearest(graph, 1)["triplets"])
    pixels = visit.drawn()
    assert_drawn(pixels, boxes_on(pixels, graph, nearest(graph, 1)))


def test_the_annotated_video_has_the_boxes_and_the_length(
    open_page: OpenPage, server: Server, clip: Path, tmp_path: Path
) -> None:
    visit = open_page(server)
    graph = visit.open(clip)
    name, content = visit.download("Annotated video")
    assert name.startswith("clip.annotated.")
    (tmp_path / name).write_bytes(content)
    with av.open(tmp_path / name) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert frames[-1][0] - frames[0][0] == pytest.approx(2.0, abs=0.5)
    picture = frames[len(frames) // 2][1]
    left, _, right, bottom = boxes_on(picture, graph, graph["frames"][0])[0].round().astype(int)
    on_the_line, inside = picture[[bottom, bottom - 12], (left + right) // 2].astype(int)
    # Colours are blurred by the recording; the line is orange and the video grey.
    assert on_the_line[0] - on_the_line[2] > 60
    assert abs(inside[0] - inside[2]) < 20


def test_the_graph_can_be_downloaded(open_page: OpenPage, server: Server, clip: Path) -> None:
    visit = open_page(server)
    graph = visit.open(clip)
    name, content = visit.download("JSON")
    assert (name, json.loads(content)) == ("clip.json", graph)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(
    open_page: OpenPage, server: Server, clip: Path, long_clip: Path, slow_engine: None, scheme: str
) -> None:
    visit = open_page(server, color_scheme=scheme)
    visit.page.get_by_text("Options").click()
    found = {"start": serious(visit)}
    visit.choose(long_clip)
    visit.until("() => /Reading frames/.test(step.textContent)")
    found["working"] = serious(visit)
    visit.page.get_by_role("button", name="Cancel").click()
    visit.page.get_by_text("Drop a video here").wait_for()
    visit.open(clip)
    found["result"] = serious(visit)
    visit.page.evaluate("() => document.getElementById('key-dialog').showModal()")
    found["key"] = serious(visit)
    assert found == {state: [] for state in found}


def serious(visit: Visit) -> list[str]:
    report = Axe().run(visit.page).response
    assert report["passes"]
    return [
        f"{violation['id']}: {violation['nodes'][0]['html']}"
        for violation in report["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def test_everything_is_reached_and_used_with_the_keyboard(open_page: OpenPage, server: Server, clip: Path) -> None:
    visit = open_page(server)
    page = visit.page
    assert tab_until(visit, "file")[-1] == "file"
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    for _ in range(3):  # the browser of a busy machine may lose a key
        page.keyboard.press("Space")
        page.wait_for_timeout(2000)
        if choosers:
            break
    choosers[0].set_files(clip)
    page.wait_for_selector("#result:not([hidden])")
    assert page.evaluate("() => document.activeElement.id") == "result-title"
    reached = tab_until(visit, "copy")
    wanted = ["play", "next", "slider", "all of spatial", "prompt", "copy"]
    assert [name for name in wanted if name in reached] == wanted
    assert sum(" score " in name for name in reached) == page.locator(".track button").count()


def tab_until(visit: Visit, wanted: str) -> list[str]:
    """Presses Tab until an id is reached; gives ids, or labels, of what was passed."""
    reached = [""]
    while reached[-1] != wanted and len(reached) < 60:
        visit.page.keyboard.press("Tab")
        focused = "() => document.activeElement.id || document.activeElement.ariaLabel || ''"
        reached.append(visit.page.evaluate(focused))
    return reached


def test_a_narrow_screen_does_not_scroll_sideways(open_page: OpenPage, server: Server, clip: Path) -> None:
    visit = open_page(server, viewport={"width": 320, "height": 640})
    visit.open(clip)
    assert visit.page.evaluate("() => document.documentElement.scrollWidth") == 320


def test_the_page_may_load_only_what_lies_beside_it(server: Server) -> None:
    answer = server.client.get("/")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    again = server.client.get(
        "/page/main.js", headers={"if-none-match": server.client.get("/page/main.js").headers["etag"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapi%2Fpage.py", "%2Fetc%2Fpasswd"])
def test_a_path_outside_the_page_is_not_served(server: Server, name: str) -> None:
    assert server.client.get(f"/page/{name}").json()["code"] == "not_found"

"""A model with words of its own goes through everything, and no word of Action Genome shows."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from pycocotools.coco import COCO
from pydantic import TypeAdapter

from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from service.rendering.tags import color_of
from tests.conftest import Server, serve
from tests.service.page.browser import CHROMIUM, launch, visit
from tests.service.test_command_line import vsg
from tests.support.bundles import MADE_UP, MADE_UP_SLOTS, make_made_up_bundle
from tests.support.videos import make_video
from vsg import Client

GREY = 0.6  # brightness of the video and of the data folder's frames
JAR, PIPE = (slot.thing for slot in MADE_UP_SLOTS)
SENTENCES = [
    f"person lifting {JAR}",
    f"robot grips with both arms {PIPE}",
    f"{PIPE} stacked over robot",
    f"{JAR} next to person",
]
_OWN_WORDS = {*MADE_UP.objects, *MADE_UP.predicates, *MADE_UP.group_names}
FOREIGN_WORDS = {*ACTION_GENOME.objects, *ACTION_GENOME.predicates, *ACTION_GENOME.group_names} - _OWN_WORDS


def test_a_model_with_words_of_its_own_goes_through_everything(tmp_path: Path) -> None:
    bundle = make_made_up_bundle(tmp_path / "made-up")
    video = make_video(tmp_path / "clip.mp4", size=(160, 120), brightness=lambda seconds: GREY)
    evaluate(bundle, write_data(tmp_path / "data"))
    with serve(tmp_path / "served", bundles=(bundle,)) as server:
        check_models(server)
        graph = check_graph(server.post(video).json())
        path = f"/videos/{graph['id']}"
        check_prompt(graph["prompt"], server.client.get(f"{path}/prompt?format=messages").json())
        check_coco(server.client.get(f"{path}?format=coco").content, tmp_path / "coco.json")
        check_graphml(server.client.get(f"{path}?format=graphml").content)
        (tmp_path / "graph.json").write_text(json.dumps(graph))
        check_picture(video, tmp_path / "graph.json", tmp_path / "frame.png", tmp_path / "drawn.mp4")
        check_client(server, video)
        check_page(server, video)  # the last, since it is skipped where there is no browser


def assert_no_foreign_word(*texts: str, is_prose: bool = False) -> None:
    """Sentences may have the word "in", which is one of Action Genome's predicates."""
    for word in FOREIGN_WORDS - ({"in"} if is_prose else set()):
        for spelling in {word, word.replace("_", " ")}:
            found = [text for text in texts if re.search(rf"\b{re.escape(spelling)}\b", text)]
            assert not found, f"{spelling!r} stands in {found[0]!r}"


def texts_of(data: Any) -> Iterator[str]:
    """All texts in JSON but the names of fields, one of which is `box`."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for part in data.values() if isinstance(data, dict) else data:
            yield from texts_of(part)


def write_data(root: Path) -> Path:
    """A data folder in Action Genome's layout, annotated with what the bundle sees of it."""
    width, height = 160, 120
    person, robot = MADE_UP_SLOTS
    persons: dict[str, Any] = {}
    things: dict[str, Any] = {}
    grey = Image.fromarray(np.full((height, width, 3), round(255 * GREY), np.uint8))
    for number in range(1, 4):
        for slot, name in ((person, "AAAAA.mp4"), (robot, "BBBBB.mp4")):
            key = f"{name}/{number:06d}.png"
            left, top, right, bottom = slot.subject_box
            box = np.array([[left * width, top * height, (right + slot.growth * GREY) * width, bottom * height]])
            persons[key] = {"bbox": box, "bbox_size": (width, height), "class": slot.subject}
            x1, y1, x2, y2 = slot.box
            things[key] = [
                {
                    "class": slot.thing,
                    "bbox": (x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height),
                    "handling_relationship": [next(iter(slot.predicates))],
                    "placing_relationship": ["next_to" if slot is person else "stacked over"],
                    "visible": True,
                    "metadata": {"set": "test"},
                }
            ]
            frame = root / "frames" / key
            frame.parent.mkdir(parents=True, exist_ok=True)
            grey.save(frame)
    (root / "vocabulary.json").write_bytes(TypeAdapter(Vocabulary).dump_json(MADE_UP))
    (root / "annotations").mkdir()
    (root / "annotations" / "person_bbox.pkl").write_bytes(pickle.dumps(persons))
    (root / "annotations" / "object_bbox_and_relationship.pkl").write_bytes(pickle.dumps(things))
    return root


def evaluate(bundle: Path, data: Path) -> None:
    done = vsg("evaluate", "--data", data, "--model", bundle, "--task", "sgdet", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["with"]["R@20"] == 1, "both relations of every frame are the best of their groups"
    assert figures["with"]["mR@20"] == pytest.approx(4 / 5), "one of the five predicates is never annotated"
    assert_no_foreign_word(done.stdout)


def check_models(server: Server) -> None:
    answer = server.client.get("/models")
    (model,) = answer.json()["models"]
    assert TypeAdapter(Vocabulary).validate_python(model["vocabulary"]) == MADE_UP
    assert model["vocabulary"]["subjects"] == ["person", "robot"]
    assert [(group["name"], group["direction"], group["exclusive"]) for group in model["vocabulary"]["groups"]] == [
        ("handling", "subject_to_object", False),
        ("placing", "object_to_subject", True),
    ]
    assert_no_foreign_word(*texts_of(answer.json()), is_prose=True)


def check_graph(graph: dict[str, Any]) -> dict[str, Any]:
    assert graph["status"] == "succeeded", graph
    assert len(graph["frames"]) == 4
    for frame in graph["frames"]:
        labels = {thing["id"]: thing["label"] for thing in frame["objects"]}
        assert labels == {1: "person", 2: "robot", 3: JAR, 4: PIPE}
        said = [(labels[t["subject"]], t["predicate"], labels[t["object"]], t["group"]) for t in frame["triplets"]]
        assert said == [
            ("person", "lifting", JAR, "handling"),
            ("robot", "grips_with_both_arms", PIPE, "handling"),
            (PIPE, "stacked over", "robot", "placing"),
            (JAR, "next_to", "person", "placing"),
        ]
    assert [(each["start"], each["end"]) for each in graph["relations"]] == [(0, 2)] * 4
    assert TypeAdapter(Vocabulary).validate_python(graph["vocabulary"]) == MADE_UP
    assert_no_foreign_word(*texts_of({name: value for name, value in graph.items() if name != "prompt"}))
    return graph


def check_prompt(prompt: str, messages: list[dict[str, str]]) -> None:
    assert prompt.splitlines()[1:] == [
        "Who does what:",
        "The person lifts the Müslischüssel or Jar and has it next to them (throughout).",
        "The robot grips the <b>Pipe & {} with both arms and has it stacked over them (throughout).",
    ]
    assert messages[1]["content"] == prompt
    assert "caption of what the person or robot does" in messages[0]["content"]
    assert_no_foreign_word(prompt, messages[0]["content"], is_prose=True)


def check_client(server: Server, video: Path) -> None:
    with Client(server.url) as client:
        graph = client.graph(video, constraint="with")
        assert graph.vocabulary == client.models()[0].vocabulary == MADE_UP
        assert client.prompt(graph.id) == graph.prompt
    check_graph(graph.model_dump(mode="json"))
    assert_no_foreign_word(graph.prompt, is_prose=True)


def check_coco(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    coco = COCO(str(path))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(MADE_UP.objects)
    assert {category["supercategory"] for category in coco.dataset["categories"]} == {"person", "robot", "thing"}
    assert [predicate["name"] for predicate in coco.dataset["predicates"]] == list(MADE_UP.predicates)
    assert len(coco.getAnnIds(catIds=coco.getCatIds(["robot"]))) == 4
    first = coco.dataset["relations"][2]
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    ends = [names[coco.anns[first[end]]["category_id"]] for end in ("subject_id", "object_id")]
    assert (ends, MADE_UP.predicates[first["predicate_id"]]) == ([PIPE, "robot"], "stacked over")
    assert_no_foreign_word(*texts_of(coco.dataset))


def check_graphml(content: bytes) -> None:
    graph = nx.read_graphml(io.BytesIO(content), node_type=int, force_multigraph=True)
    assert {identity: node["label"] for identity, node in graph.nodes(data=True)} == {
        1: "person", 2: "robot", 3: JAR, 4: PIPE,
    }  # fmt: skip
    edges = {(subject, edge["predicate"], thing, edge["group"]) for subject, thing, edge in graph.edges(data=True)}
    assert edges == {
        (1, "lifting", 3, "handling"),
        (2, "grips_with_both_arms", 4, "handling"),
        (4, "stacked over", 2, "placing"),
        (3, "next_to", 1, "placing"),
    }
    assert_no_foreign_word(content.decode())


def check_page(server: Server, video: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; tests/install-system-packages does that")
    with sync_playwright() as playwright, launch(playwright) as browser, visit(browser, server) as page:
        page.open(video)
        assert page.words() == SENTENCES
        nodes = page.page.locator(".node text").all_text_contents()
        assert nodes == ["person", "robot", JAR, PIPE]
        assert page.page.locator(".filter legend").all_inner_texts() == ["handling", "placing"]
        titles = page.page.locator(".pair h4").all_inner_texts()
        wanted = [f"person \N{EN DASH} {JAR}", f"robot \N{EN DASH} {PIPE}"]
        assert titles == wanted, "the subject comes first, whichever way relations run"
        page.page.get_by_label("all of placing").uncheck()
        assert page.words() == SENTENCES[:2]
        labels = page.page.eval_on_selector_all("[aria-label]", "parts => parts.map(part => part.ariaLabel)")
        assert_no_foreign_word(page.page.inner_text("body"), *labels, is_prose=True)
        assert page.complaints == []


def check_picture(video: Path, graph: Path, picture: Path, film: Path) -> None:
    for arguments in ((picture, "--at", "0.5", "--scale", "3"), (film,)):
        done = vsg("render", video, graph, "-o", *arguments)
        assert (done.returncode, done.stderr.strip()) == (0, "")
    pixels = np.asarray(Image.open(picture))
    beside = pixels[:, 3 * 160 :]
    left, right = beside[:, : beside.shape[1] // 2], beside[:, beside.shape[1] // 2 :]
    for identity, half in ((1, left), (2, left), (3, right), (4, right)):
        assert (half == color_of(identity)).all(axis=2).any(), "subjects stand on the left, things on the right"
    assert film.stat().st_size > 0

"""Archives in other programs' formats, read by these programs or by our own readers."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import networkx as nx
import pytest
from click.testing import CliRunner, Result
from pycocotools.coco import COCO

from service.archive.folder import ArchiveFolder
from service.archive.tables import video_key
from service.archive.writing import append
from service.commands.archive import archive
from tests.support.archives import GRAPH, make_archive, problem_of
from training.data.relations.corrected import read_cvat, read_label_studio
from training.data.relations.record import Record
from training.errors import DataError

KEYS = [video_key(name) for name in "ab"]


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveFolder:
    made = make_archive(tmp_path / "archive", "ab")
    append(made, problem_of("broken"))
    return made


def run(*arguments: object) -> Result:
    return CliRunner().invoke(archive, list(map(str, arguments)), catch_exceptions=False)


def exported(folder: ArchiveFolder, form: str, out: Path, *more: object) -> Path:
    done = run("export", form, folder.url, out, *more)
    assert done.exit_code == 0, done.output
    return out


def said(record: Record) -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    """(subject, object) to what holds and what was asked."""
    return {
        (record.labels[pair.subject], record.labels[pair.object]): (set(pair.predicates), set(pair.asked))
        for pair in record.pairs
    }


def test_graphml_opens_in_networkx(folder: ArchiveFolder, tmp_path: Path) -> None:
    graph = nx.read_graphml(exported(folder, "graphml", tmp_path / "all.graphml"), force_multigraph=True)
    assert len(graph) == 6
    node = graph.nodes[f"{KEYS[0]}:2"]
    assert (node.pop("owner", None) or "") == ""
    assert node == {
        "video": KEYS[0],
        "path": "/videos/a.mp4",
        "label": "cup/glass/bottle",
        "first": 0.0,
        "last": 1.5,
        "score": 0.9,
    }
    edges = [data for _, _, data in graph.edges(data=True)]
    assert sorted(edge["predicate"] for edge in edges) == sorted(["holding", "in_front_of", "sitting_on"] * 2)
    assert {edge.get("relation_score") for edge in edges} == {None, 0.9}


def test_neo4j_gets_nodes_and_relationships_that_fit_together(folder: ArchiveFolder, tmp_path: Path) -> None:
    out = exported(folder, "neo4j", tmp_path / "neo4j")
    tables = {path.stem: list(csv.DictReader(path.read_text().splitlines())) for path in out.iterdir()}
    assert {name: len(rows) for name, rows in tables.items()} == {
        "videos": 2,
        "objects": 6,
        "shown_in": 6,
        "relations": 6,
    }
    objects = {row["key:ID(Object)"] for row in tables["objects"]}
    assert len(objects) == 6
    for row in tables["relations"]:
        assert {row[":START_ID(Object)"], row[":END_ID(Object)"]} <= objects
        assert row[":TYPE"] in ("HOLDING", "IN_FRONT_OF", "SITTING_ON")
    assert {row[":END_ID(Video)"] for row in tables["shown_in"]} == {row["key:ID(Video)"] for row in tables["videos"]}


def test_coco_opens_in_pycocotools(folder: ArchiveFolder, tmp_path: Path) -> None:
    coco = COCO(str(exported(folder, "coco", tmp_path / "all.json")))
    assert (len(coco.imgs), len(coco.anns)) == (8, 10)
    assert {video["path"] for video in coco.dataset["videos"]} == {"/videos/a.mp4", "/videos/b.mp4"}
    names = {category["id"]: category["name"] for category in coco.dataset["categories"]}
    predicates = {each["id"]: each["name"] for each in coco.dataset["predicates"]}
    told = [
        (
            names[coco.anns[relation["subject_id"]]["category_id"]],
            predicates[relation["predicate_id"]],
            names[coco.anns[relation["object_id"]]["category_id"]],
        )
        for relation in coco.dataset["relations"]
    ]
    assert (
        told
        == [
            ("person", "holding", "cup/glass/bottle"),
            ("cup/glass/bottle", "in_front_of", "person"),
            ("person", "sitting_on", "chair"),
        ]
        * 2
    )


def test_label_studio_gives_back_what_was_corrected(folder: ArchiveFolder, tmp_path: Path) -> None:
    out = exported(folder, "label-studio", tmp_path / "tasks.json", "--video", KEYS[0])
    tasks = json.loads(out.read_text())
    assert [task["data"]["time"] for task in tasks] == [0.0, 0.5, 1.0, 1.5]
    assert tasks[0]["data"]["image"] == f"/data/local-files/?d={KEYS[0]}/00000.0000.jpg"
    configuration = ET.parse(f"{out}.config.xml")
    assert {each.get("value") for each in configuration.iter("Relation")} == set(GRAPH.vocabulary.predicates)
    # An annotator opens the first task: the cup is not held but drunk from. The last one is fine; the others wait.
    first = tasks[0]["predictions"][0]["result"]
    for part in first:
        if part["type"] == "relation" and part["labels"] == ["holding"]:
            part |= {"labels": ["drinking_from"], "from_id": part["to_id"], "to_id": "1", "direction": "left"}
    tasks[0]["annotations"] = [{"result": [], "was_cancelled": True}, {"result": first}]
    tasks[3]["annotations"] = [{"result": tasks[3]["predictions"][0]["result"]}]
    out.write_text(json.dumps(tasks))
    corrected, fine = read_label_studio([out])
    assert (corrected.video, corrected.time, corrected.width, corrected.height) == (KEYS[0], 0.0, 160, 128)
    assert corrected.boxes == tuple(thing.box for thing in GRAPH.frames[0].objects)
    assert said(corrected) == {
        ("person", "cup/glass/bottle"): ({"drinking_from", "in_front_of"}, {"drinking_from", "in_front_of", "holding"})
    }
    assert said(fine) == {("person", "chair"): ({"sitting_on"}, {"sitting_on"})}


def test_cvat_gives_back_what_was_corrected(folder: ArchiveFolder, tmp_path: Path) -> None:
    out = exported(folder, "cvat", tmp_path / "annotations.xml", "--video", KEYS[0])
    labels = json.loads(Path(f"{out}.labels.json").read_text())
    assert {label["name"] for label in labels} == set(GRAPH.vocabulary.objects)
    text = out.read_text()
    assert text.count("holding 2") == 2
    out.write_text(text.replace("holding 2", "drinking_from 2", 1))
    first, *_, last = read_cvat([out])
    assert (first.video, first.time, first.width) == (KEYS[0], 0.0, 160)
    assert said(first) == {
        ("person", "cup/glass/bottle"): ({"drinking_from", "in_front_of"}, {"drinking_from", "in_front_of", "holding"})
    }
    assert said(last) == {("person", "chair"): ({"sitting_on"}, {"sitting_on"})}


def test_a_wrong_relation_in_cvat_is_an_error_that_names_the_box(folder: ArchiveFolder, tmp_path: Path) -> None:
    out = exported(folder, "cvat", tmp_path / "annotations.xml", "--video", KEYS[0])
    out.write_text(out.read_text().replace("holding 2", "holding 5", 1))
    with pytest.raises(DataError, match=r"box 1 has the relation 'holding 5': give .* one of the boxes 1, 2"):
        list(read_cvat([out]))


@pytest.mark.parametrize("content", ["{}", "nonsense", '[{"data": {}, "annotations": [{"result": []}]}]'])
def test_what_is_no_export_of_label_studio_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"tasks\.json"):
        list(read_label_studio([path]))


@pytest.mark.parametrize("form", ["coco", "label-studio", "cvat"])
def test_formats_of_frames_need_an_archive_that_keeps_them(tmp_path: Path, form: str) -> None:
    folder = make_archive(tmp_path / "archive", "a", with_frames=False)
    done = CliRunner().invoke(archive, ["export", form, folder.url, str(tmp_path / "out")])
    assert "vsg batch --frames" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_an_unknown_video_is_named(folder: ArchiveFolder, tmp_path: Path) -> None:
    for arguments in (
        ["export", "graphml", folder.url, str(tmp_path / "out"), "--video", "nobody"],
        ["delete", folder.url, "nobody"],
    ):
        done = CliRunner().invoke(archive, arguments)
        assert "has no video 'nobody'" in str(done.exception)


def test_commands_delete_and_compact(folder: ArchiveFolder) -> None:
    assert "1 videos are gone" in run("delete", folder.url, KEYS[0]).output
    assert "1 files became 1" in run("compact", folder.url).output

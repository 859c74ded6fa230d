"""Other data sets' annotations, read as relations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.graph.vocabulary import ACTION_GENOME
from tests.support.annotated import write_two_videos
from tests.support.paths import SHARED
from training.data.relations.action_genome import read_action_genome
from training.data.relations.cad120 import read_cad120
from training.data.relations.formats import FORMATS, FormatName
from training.data.relations.hico_det import read_hico_det
from training.data.relations.open_images import read_open_images
from training.data.relations.record import Record
from training.data.relations.v_coco import read_v_coco
from training.data.relations.vrd import read_vrd
from training.errors import DataError

PERSON, CUP, BOARD = [10, 10, 60, 110], [40, 50, 55, 65], [5, 100, 70, 115]


def write(path: Path, content: object) -> Path:
    lines = content if isinstance(content, list) else [content]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def said(record: Record) -> dict[tuple[str, str], tuple[set[str], set[str], bool | None]]:
    """(subject, object) to what holds, what was asked and whether they are related."""
    return {
        (record.labels[pair.subject], record.labels[pair.object]): (
            set(pair.predicates), set(pair.asked), pair.related,
        )
        for pair in record.pairs
    }  # fmt: skip


class TestHicoDet:
    # Of cups the set asks holding and drinking, of boards riding; the third picture shows an idle pair.
    PICTURES = (
        ("a.jpg", [(PERSON, CUP, "cup", "hold"), (PERSON, CUP, "cup", "sip")]),
        ("b.jpg", [(PERSON, BOARD, "skateboard", "ride"), (PERSON, BOARD, "skateboard", "jump")]),
        ("c.jpg", [(PERSON, CUP, "cup", "no_interaction")]),
        ("d.jpg", [(PERSON, CUP, "cup", "inspect")]),
    )

    def lines(self, folder: Path) -> list[Path]:
        pictures = []
        for image, rows in self.PICTURES:
            verbs = [verb for *_, verb in rows]
            pairs = [[rows[0][0], rows[0][1], rows[0][2], verbs, ["hand:hold"]]]
            pictures.append({"image": image, "w": 100, "h": 120, "raw": len(rows), "pairs": pairs})
        return [write(folder / "train.jsonl", pictures)]

    def hicodet(self, folder: Path) -> list[Path]:
        objects, verbs = ["cup", "skateboard"], ["hold", "sip", "ride", "jump", "no_interaction", "inspect"]
        annotation = [
            {
                "boxes_h": [person for person, *_ in rows], "boxes_o": [thing for _, thing, *_ in rows],
                "object": [objects.index(label) for _, _, label, _ in rows],
                "verb": [verbs.index(verb) for *_, verb in rows],
            }
            for _, rows in self.PICTURES
        ]  # fmt: skip
        content = {
            "annotation": annotation, "filenames": [image for image, _ in self.PICTURES],
            "size": [[100, 120]] * 4, "objects": objects, "verbs": verbs,
        }  # fmt: skip
        return [write(folder / "instances_train2015.json", content)]

    def hake(self, folder: Path) -> list[Path]:
        interactions = sorted({(label, verb) for _, rows in self.PICTURES for _, _, label, verb in rows})
        table = folder / "hico_hoi_list.txt"
        table.write_text(
            "HOI list\nid object verb\n" + "\n".join(f"{n} {o} {v}" for n, (o, v) in enumerate(interactions, 1))
        )
        content = {
            image: {
                "labels": [
                    {
                        "human_bbox": person, "object_bbox": thing, "width": 100, "height": 120,
                        "hoi_id": 1 + interactions.index((label, verb)), "action_labels": [],
                    }
                    for person, thing, label, verb in rows
                ]
            }
            for image, rows in self.PICTURES
        }  # fmt: skip
        return [write(folder / "instance-level.json", content), table]

    @pytest.mark.parametrize("form", ["lines", "hicodet", "hake"])
    def test_all_three_files_say_the_same(self, form: str, tmp_path: Path) -> None:
        first, second, idle, watching = read_hico_det(getattr(self, form)(tmp_path))
        cup = ("person", "cup/glass/bottle")
        asked = {"holding", "drinking_from", "looking_at", "not_contacting"}
        assert said(first) == {cup: ({"holding", "drinking_from"}, asked, True)}
        # No verb of boards means holding, so nothing is known of it.
        assert said(second) == {("person", "skateboard"): ({"standing_on"}, {"standing_on"}, True)}
        assert said(idle) == {cup: ({"not_contacting"}, asked, False)}
        # Who inspects a cup may touch it or not.
        assert said(watching) == {cup: ({"looking_at"}, asked - {"not_contacting"}, True)}
        assert (first.image, first.width, first.height, first.source) == ("a.jpg", 100, 120, "hico_det")

    def test_boxes_that_were_drawn_twice_are_one_thing(self, tmp_path: Path) -> None:
        moved = [11, 10, 61, 111]
        pairs = [[PERSON, CUP, "cup", ["hold"], []], [moved, BOARD, "skateboard", ["ride"], []]]
        (record,) = read_hico_det([write(tmp_path / "a.jsonl", {"image": "a.jpg", "w": 100, "h": 120, "pairs": pairs})])
        assert record.labels == ("person", "cup/glass/bottle", "skateboard")

    def test_hake_needs_the_list_of_its_interactions(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"hico_hoi_list.txt after it"):
            list(read_hico_det(self.hake(tmp_path)[:1]))

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is no annotation file of HICO-DET"):
            list(read_hico_det([write(tmp_path / "a.json", {"annotation": []})]))


def drawn_again(*verbs: str) -> list[object]:
    """HICO-DET's lines of a picture whose annotators drew both boxes anew, with an IoU of 0.6, for the second verb."""
    boxes = (PERSON, CUP), ([10, 25, 60, 125], [43, 53, 55, 65])
    pairs = [[*both, "cup", [verb], []] for both, verb in zip(boxes, verbs, strict=True)]
    # Another picture, so that both verbs are asked of cups.
    other = [[PERSON, CUP, "cup", [verb], []] for verb in ("hold", "sip", "no_interaction")]
    return [
        {"image": "a.jpg", "w": 100, "h": 130, "pairs": pairs},
        {"image": "b.jpg", "w": 100, "h": 130, "pairs": other},
    ]


def test_hico_det_joins_the_verbs_of_boxes_that_were_drawn_again(tmp_path: Path) -> None:
    record, _ = read_hico_det([write(tmp_path / "train.jsonl", drawn_again("hold", "sip"))])
    assert record.labels == ("person", "cup/glass/bottle")
    assert [set(pair.predicates) for pair in record.pairs] == [{"holding", "drinking_from"}]


def test_a_pair_that_was_drawn_again_as_idle_is_what_it_does(tmp_path: Path) -> None:
    record, _ = read_hico_det([write(tmp_path / "train.jsonl", drawn_again("no_interaction", "hold"))])
    (pair,) = record.pairs
    assert pair.predicates == ("holding",)
    assert "not_contacting" in pair.asked
    assert pair.related


def test_v_coco_asks_each_class_the_verbs_that_it_can_have(tmp_path: Path) -> None:
    content = {
        "classes": ["hold obj", "eat obj", "ride instr", "look obj"], "objects": ["cup", "skateboard", "wine glass"],
        "action_to_object": [[0, 1], [], [1], [0, 1]], "images": [],
        "annotations": [
            {
                "file_name": "a.jpg", "boxes_h": [PERSON, PERSON, PERSON], "boxes_o": [CUP, BOARD, BOARD],
                "actions": [0, 2, 3], "objects": [0, 1, 1],
            }
        ],
    }  # fmt: skip
    (record,) = read_v_coco([write(tmp_path / "instances_vcoco_train.json", content)])
    assert said(record) == {
        ("person", "cup/glass/bottle"): ({"holding"}, {"holding", "looking_at"}, True),
        ("person", "skateboard"): ({"standing_on", "looking_at"}, {"holding", "standing_on", "looking_at"}, True),
    }
    assert (record.image, record.width) == ("a.jpg", None)


def test_vrd_says_where_the_thing_is_as_seen_from_the_person(tmp_path: Path) -> None:
    picture = {
        "image": "a.jpg", "boxes": [PERSON, CUP, BOARD, [0, 0, 100, 8]], "classes": ["person", "cup", "table", "lamp"],
        "rels": [[0, 2, ["behind"]], [1, 2, ["above"]], [0, 1, ["hold"]], [3, 0, ["over"]], [0, 2, ["look"]]],
    }  # fmt: skip
    (record,) = read_vrd([write(tmp_path / "vrd.jsonl", picture)])
    found = said(record)
    assert found["person", "table"][0] == {"in_front_of"}
    assert found["table", "cup/glass/bottle"][0] == {"above"}
    assert found["person", "light"][0] == {"above"}
    assert found["person", "cup/glass/bottle"][0] == {"holding"}
    assert "looking_at" not in found["person", "table"][1]


def test_vrd_says_of_a_person_what_they_are_in(tmp_path: Path) -> None:
    picture = {
        "image": "a.jpg", "boxes": [PERSON, BOARD, CUP], "classes": ["person", "bed", "plate"],
        "rels": [[0, 1, ["in"]], [2, 1, ["inside"]]],
    }  # fmt: skip
    (record,) = read_vrd([write(tmp_path / "vrd.jsonl", picture)])
    found = said(record)
    assert found["person", "bed"][0] == {"in"}
    assert found["dish", "bed"][0] == {"in"}


def test_vrd_joins_boxes_that_were_drawn_again(tmp_path: Path) -> None:
    again = [corner + 1 for corner in PERSON]
    picture = {
        "image": "a.jpg", "boxes": [PERSON, CUP, again], "classes": ["person", "cup", "person"],
        "rels": [[0, 1, ["behind"]], [2, 1, ["next to"]]],
    }  # fmt: skip
    (record,) = read_vrd([write(tmp_path / "vrd.jsonl", picture)])
    (pair,) = record.pairs
    assert set(pair.predicates) == {"in_front_of", "on_the_side_of"}


def test_cad120_gives_six_moments_a_second_and_asks_what_an_affordance_tells(tmp_path: Path) -> None:
    def segment(start: int, affordance: str, frames: int, tracked: int) -> dict[str, object]:
        return {
            "start": start, "end": start + frames - 1, "sub_activity": "moving", "object_affordance": affordance,
            "person_px_est": [PERSON] * frames, "object_px": [CUP] * tracked,
        }  # fmt: skip

    video = {
        "video": "7", "subject": "subject1", "activity": "drinking", "object": "cup", "w": 640, "h": 480, "fps": 30,
        "segments": [segment(0, "movable", 10, 10), segment(10, "pourto", 5, 5), segment(15, "reachable", 30, 6)],
    }  # fmt: skip
    records = list(read_cad120([write(tmp_path / "cad.jsonl", video)]))
    assert [record.time for record in records] == pytest.approx([0, 5 / 30, 10 / 30, 15 / 30, 20 / 30])
    cup = ("person", "cup/glass/bottle")
    asked = {"holding", "not_contacting", "touching", "wiping"}
    assert said(records[0])[cup] == ({"holding"}, asked, True)
    assert said(records[2])[cup] == (set(), set(), None)
    assert said(records[3])[cup] == ({"not_contacting"}, asked, False)
    assert {record.video for record in records} == {"subject1/drinking/7"}


def test_open_images_joins_its_rows_to_pictures(tmp_path: Path) -> None:
    corners = "XMin1,XMax1,YMin1,YMax1,XMin2,XMax2,YMin2,YMax2"
    table, rows = tmp_path / "classes.csv", tmp_path / "vrd.csv"
    table.write_text("/m/man,Man\n/m/mug,Mug\n/m/chair,Chair\n")
    rows.write_text(
        f"ImageID,LabelName1,LabelName2,{corners},RelationshipLabel\n"
        "p,/m/man,/m/mug,0.1,0.5,0.1,0.9,0.4,0.5,0.4,0.5,holds\n"
        "p,/m/man,/m/chair,0.1,0.5,0.1,0.9,0.1,0.6,0.5,1.0,on\n"
        "q,/m/mug,/m/wood,0.1,0.5,0.1,0.9,0.1,0.5,0.1,0.9,is\n"
        "r,/m/man,/m/mug,0.1,0.5,0.1,0.9,0.4,0.5,0.4,0.5,interacts_with\n"
    )
    first, second = read_open_images([table, rows])
    assert said(first) == {
        ("person", "cup/glass/bottle"): ({"holding"}, {"holding"}, True),
        ("person", "chair"): ({"sitting_on"}, {"sitting_on"}, True),
    }
    assert said(second) == {("person", "cup/glass/bottle"): (set(), {"holding"}, True)}
    with pytest.raises(DataError, match="the table of classes is missing"):
        list(read_open_images([rows]))


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("hico-det", ["hico_det/hico_det_train.jsonl"]),
        ("v-coco", ["v_coco/instances_vcoco_val.json"]),
        ("vrd", ["vrd/vrd_train.jsonl"]),
        ("cad120", ["cad120/cad120_obj1.jsonl"]),
        ("open-images", [f"openimages_vrd/challenge-2019-{name}.csv" for name in ("classes-vrd", "validation-vrd")]),
    ],
)
def test_real_annotations_are_read_whole(form: FormatName, files: list[str]) -> None:
    paths = [SHARED / "real" / name for name in files]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"real annotations are kept beside the checkout: {paths[0]}")
    records = list(FORMATS[form](paths))
    pairs = [pair for record in records for pair in record.pairs]
    assert len(pairs) > 500
    assert all(pair.asked for pair in pairs if pair.predicates)
    assert sum(len(pair.predicates) for pair in pairs) > 400


def test_action_genome_asks_every_predicate_of_every_annotated_pair(tmp_path: Path) -> None:
    first, *rest = read_action_genome([write_two_videos(tmp_path)])
    assert len(rest) == 2, "the test part is not read"
    (pair,) = first.pairs
    assert (first.labels, first.video, first.width) == (("person", "table"), "AAAAA.mp4", 480)
    assert set(pair.predicates) == {"looking_at", "in_front_of", "beneath", "touching"}
    assert pair.asked == ACTION_GENOME.predicates
    assert [record.time for record in (first, *rest)] == pytest.approx([10 / 24, 20 / 24, 30 / 24])

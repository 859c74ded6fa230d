"""The loader of data folders, on small folders written here and on real records where they lie."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.graph.vocabulary import ACTION_GENOME
from tests.support.annotated import (
    SIZE,
    Records,
    Touch,
    change_first,
    hidden,
    person,
    records,
    rewrite,
    rewrite_objects,
    thing,
    write,
    write_two_videos,
)
from tests.support.paths import SHARED
from training.data.action_genome import (
    RAW_OBJECT_CLASSES,
    RAW_PREDICATES,
    AnnotatedFrame,
    AnnotatedVideo,
    ground_truth_of,
    load_action_genome,
    read_vocabulary,
)
from training.data.check import check_data
from training.data.facts import small_objects_of
from training.errors import DataError, ForbiddenPickleError

OBJECTS = ACTION_GENOME.objects
PREDICATES = ACTION_GENOME.predicates
OBJECT_INDEX = ACTION_GENOME.object_index

RECORDS = SHARED / "action_genome"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_two_videos(tmp_path)


def load(root: Path, **arguments: Any) -> list[AnnotatedVideo]:
    return load_action_genome(root, **{"split": "train", "small_objects": "keep", **arguments})


def test_a_frame_gives_what_its_records_hold(root: Path) -> None:
    (video,) = load(root)
    assert (video.name, [frame.number for frame in video.frames]) == ("AAAAA.mp4", [10, 20, 30])
    frame = video.frames[0]
    assert frame.path == root / "frames" / "AAAAA.mp4" / "000010.png"
    assert frame.size == SIZE
    assert frame.person_box.tolist() == [10, 20, 90, 200]
    assert frame.boxes.tolist() == [[100, 50, 160, 90]]  # from x, y, width, height
    assert [OBJECTS[label] for label in frame.labels] == ["table"]
    held = np.flatnonzero(frame.predicates)
    assert [PREDICATES[index] for index in held] == ["looking_at", "beneath", "in_front_of", "touching"]
    assert frame.person_label == 0


def test_ground_truth_has_the_person_first_and_turns_spatial_relations_round(root: Path) -> None:
    ground_truth = ground_truth_of(load(root)[0].frames[0])
    assert ground_truth.boxes.tolist() == [[10, 20, 90, 200], [100, 50, 160, 90]]
    assert ground_truth.labels.tolist() == [0, OBJECT_INDEX["table"]]
    relations = [(subject, PREDICATES[predicate], object_) for subject, object_, predicate in ground_truth.relations]
    assert relations == [(0, "looking_at", 1), (1, "beneath", 0), (1, "in_front_of", 0), (0, "touching", 1)]


def test_the_first_object_decides_the_split_even_if_hidden(root: Path) -> None:
    def change(objects: Records) -> None:
        for key in objects:
            if key.startswith("AAAAA"):
                objects[key] = [hidden("test"), thing()]

    rewrite_objects(root, change)
    assert [video.name for video in load(root, split="test")] == ["AAAAA.mp4", "BBBBB.mp4"]
    with pytest.raises(DataError, match="no video of the split 'train' with 3 usable frames"):
        load(root)


def test_frames_without_visible_object_or_person_and_short_videos_are_left_out(tmp_path: Path) -> None:
    persons, objects = records(frames=5)
    persons["AAAAA.mp4/000020.png"] = person()
    objects["AAAAA.mp4/000040.png"] = [hidden()]
    objects["AAAAA.mp4/000050.png"] = [hidden(), thing("cup/glass/bottle")]
    short_persons, short_objects = records("SHORT.mp4", frames=2)
    write(tmp_path, short_persons | persons, short_objects | objects)
    (video,) = load(tmp_path)
    assert [frame.number for frame in video.frames] == [10, 30, 50]
    assert [OBJECTS[label] for label in video.frames[2].labels] == ["cup/glass/bottle"]
    assert [video.name for video in load(tmp_path, minimum_frames=1)] == ["SHORT.mp4", "AAAAA.mp4"]


def test_order_is_that_of_the_file_of_persons(tmp_path: Path) -> None:
    persons, objects = records()
    write(tmp_path, dict(reversed(persons.items())), objects)
    assert [frame.number for frame in load(tmp_path)[0].frames] == [30, 20, 10]


def test_small_objects_are_dropped_on_request(root: Path) -> None:
    def change(objects: Records) -> None:
        for key in objects:
            objects[key] += [thing("book", bbox=(0, 0, 15.9, 80)), thing("phone/camera", bbox=(0, 0, 16, 16))]

    rewrite_objects(root, change)
    labels = {
        small: [OBJECTS[label] for label in load(root, small_objects=small)[0].frames[0].labels]
        for small in ("keep", "drop")
    }
    assert labels == {"keep": ["table", "book", "phone/camera"], "drop": ["table", "phone/camera"]}


def test_a_dropped_small_object_still_decides_the_split_and_may_leave_a_frame_empty(tmp_path: Path) -> None:
    persons, objects = records(frames=4)
    small = thing(split="test", bbox=(0, 0, 60, 15))
    for key in objects:
        objects[key] = [small, thing(split="train")]
    objects["AAAAA.mp4/000020.png"] = [small]
    persons["AAAAA.mp4/000030.png"] = person([10, 20, 15, 25])  # a person is never too small
    write(tmp_path, persons, objects)
    (video,) = load(tmp_path, split="test", small_objects="drop")
    assert [frame.number for frame in video.frames] == [10, 30, 40]
    rewrite_objects(tmp_path, lambda content: content.update({"AAAAA.mp4/000010.png": [small]}))
    with pytest.raises(DataError, match="no video of the split 'test' with 3 usable frames"):
        load(tmp_path, split="test", small_objects="drop")


def test_predcls_keeps_small_objects_and_the_other_tasks_drop_them(tmp_path: Path) -> None:
    assert small_objects_of(tmp_path) == "drop"
    tasks = ("predcls", "sgcls", "sgdet")
    assert [small_objects_of(tmp_path, task) for task in tasks] == ["keep", "drop", "drop"]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "puppets.json").write_text("{}")
    assert {small_objects_of(tmp_path, task) for task in tasks} == {"keep"}


def test_the_distributed_filter_file_is_used_where_present(root: Path) -> None:
    persons, objects = records(frames=4)
    filtered = {key: [thing("chair", bbox=(0, 0, 5, 5))] for key in list(objects)[:3]} | {list(objects)[3]: []}
    path = root / "annotations" / "object_bbox_and_relationship_filtersmall.pkl"
    path.write_bytes(pickle.dumps(filtered))
    write(root, persons, objects)
    assert [len(load(root, small_objects=small)[0].frames) for small in ("keep", "drop")] == [4, 3]
    assert OBJECTS[load(root, small_objects="drop")[0].frames[0].labels[0]] == "chair"
    assert check_data(root).ok


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_first(**{"class": "sofa"}), "object 0: object class 'sofa' .* the nearest is 'sofa/couch'"),
        (change_first(**{"class": "person"}), "object 0 is a person"),
        (change_first(spatial_relationship=["behindd"]), "spatial predicate 'behindd' .* the nearest is 'behind'"),
        (change_first(contacting_relationship="holding"), "contacting_relationship is 'holding', expected a list"),
        (change_first(attention_relationship=[]), "attention_relationship must hold exactly one predicate"),
        (change_first(bbox=None), "object 0 .table. has no 'bbox'"),
        (change_first(bbox=(1, 2, 3)), r"bbox has shape \(3,\), expected x, y, width, height"),
        (change_first(bbox=(1, 2, 3, float("nan"))), "expected finite numbers"),
        (change_first(bbox="here"), "bbox is 'here', expected numbers"),
        (change_first(metadata={"set": "val"}), "its 'set' must be 'train' or 'test'"),
        (lambda objects: objects.update({"AAAAA.mp4/000010.png": []}), " has no list of objects"),
        (lambda objects: objects.update({"AAAAA.mp4/000010.png": ["table"]}), "object 0 has no 'metadata'"),
    ],
)
def test_a_malformed_object_is_refused_and_found_by_the_check(root: Path, change: Any, message: str) -> None:
    rewrite_objects(root, change)
    with pytest.raises(DataError, match=f"object_bbox_and_relationship.pkl: 'AAAAA.mp4/000010.png.*{message}"):
        load(root)
    (problem,) = check_data(root).problems
    with pytest.raises(DataError, match=message):
        raise DataError(problem)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (person([1, 2, 3, 4], [1, 2, 3, 4]), "has 2 persons"),
        (person([1, 2, 3, 4], size=(0, 0)), "bbox_size is .*, expected width and height"),
        ({**person(), "bbox": np.zeros((1, 3))}, "bbox has shape"),
        ({"bbox_size": SIZE}, "has no 'bbox'"),
        (None, "has no 'bbox'"),
    ],
)
def test_a_malformed_person_is_refused(root: Path, record: Any, message: str) -> None:
    rewrite(root, "person_bbox.pkl", lambda persons: persons.update({"AAAAA.mp4/000020.png": record}))
    with pytest.raises(DataError, match=f"person_bbox.pkl: 'AAAAA.mp4/000020.png'.*{message}"):
        load(root)


@pytest.mark.parametrize("key", ["AAAAA.mp4/last.png", "../000010.png", "a/b/000010.png", "000010.png"])
def test_a_key_that_is_no_frame_is_refused(root: Path, key: str) -> None:
    rewrite(root, "person_bbox.pkl", lambda persons: persons.update({key: person([1, 2, 3, 4])}))
    rewrite_objects(root, lambda objects: objects.update({key: [thing()]}))
    with pytest.raises(DataError, match="is not a key of the form"):
        load(root)


def test_class_files_must_have_the_published_order(root: Path) -> None:
    names = list(RAW_PREDICATES)
    names[3], names[4] = names[4], names[3]
    (root / "annotations" / "relationship_classes.txt").write_text("\n".join(names))
    with pytest.raises(DataError, match=r"relationship_classes.txt, line 4 is 'beneath', expected 'above'"):
        load(root)
    (root / "annotations" / "object_classes.txt").write_text("\n".join([*RAW_OBJECT_CLASSES, "cat"]))
    problems = check_data(root).problems
    assert len(problems) == 3
    assert "object_classes.txt, line 37 is 'cat', expected None" in problems[0]


@pytest.mark.parametrize(
    "name",
    ["object_classes.txt", "relationship_classes.txt", "person_bbox.pkl", "object_bbox_and_relationship.pkl"],
)
def test_a_missing_file_is_named(root: Path, name: str) -> None:
    (root / "annotations" / name).unlink()
    with pytest.raises(DataError, match=f"{name} cannot be read: No such file"):
        load(root)


def test_a_wrong_file_is_named(root: Path) -> None:
    path = root / "annotations" / "person_bbox.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match=r"person_bbox.pkl holds a list, not a dict of frames"):
        load(root)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(DataError, match=r"person_bbox.pkl is not a complete pickle of annotations"):
        load(root)


def test_missing_images_are_named(root: Path) -> None:
    folder = root / "frames" / "AAAAA.mp4"
    (folder / "000020.png").unlink()
    with pytest.raises(DataError, match=r"AAAAA.mp4/000020.png is missing; `vsg data frames ROOT`"):
        load(root)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"AAAAA.mp4 is empty: dumping this video's frames has failed"):
        load(root)
    folder.rmdir()
    with pytest.raises(DataError, match=r"AAAAA.mp4 cannot be read: No such file"):
        load(root)


def test_a_malicious_pickle_runs_nothing(root: Path, tmp_path: Path) -> None:
    path = root / "annotations" / "person_bbox.pkl"
    path.write_bytes(pickle.dumps({"AAAAA.mp4/000010.png": Touch(tmp_path / "touched")}))
    with pytest.raises(ForbiddenPickleError, match=r"person_bbox.pkl asks for posix.system, .* nothing was run"):
        load(root)
    assert not (tmp_path / "touched").exists()
    assert "posix.system" in check_data(root).problems[0]


@pytest.mark.skipif(not RECORDS.exists(), reason=f"the real records are not there: {RECORDS}")
def test_real_records_are_read(tmp_path: Path) -> None:
    raw = json.loads((RECORDS / "ag_raw_records.json").read_text())
    objects = {key: record["objects"] for key, record in raw["object_bbox_and_relationship"].items()}
    persons = {key: person([1, 2, 3, 4]) for key in objects}
    for key, record in raw["person_bbox"].items():
        if key in objects:
            arrays = {name: np.array(record[name], dtype=np.float32) for name in ("bbox", "bbox_score", "keypoints")}
            persons[key] = {**record, **arrays, "bbox_size": tuple(record["bbox_size"])}
    write(tmp_path, persons, objects)
    frames = {video.name: video.frames for video in load(tmp_path, minimum_frames=1)}
    assert sum(map(len, frames.values())) == sum(any(each["visible"] for each in found) for found in objects.values())
    first = frames["001YG.mp4"][0]
    assert [OBJECTS[label] for label in first.labels] == ["table", "chair"]
    assert first.person_box == pytest.approx([24.29774, 71.443954, 259.23602, 268.20288])
    assert first.boxes[0] == pytest.approx([222.10317460, 143.82936508, 479.88095238, 244.94047619])
    assert ground_truth_of(first).relations.shape == (8, 3)
    # The only object of 50N4E's four frames is a dish: once 15.7 pixels wide, once 12.1 high, twice large enough.
    large = load(tmp_path, small_objects="drop", minimum_frames=1)
    assert [len(video.frames) for video in large if video.name == "50N4E.mp4"] == [2]
    assert len(frames["50N4E.mp4"]) == 4


@pytest.mark.skipif(not RECORDS.exists(), reason=f"the real records are not there: {RECORDS}")
def test_every_relation_of_a_real_video_is_kept(tmp_path: Path) -> None:
    video = json.loads((RECORDS / "ag_test_video_00607.json").read_text())
    objects = {
        frame["frame"]: [
            {**each, "bbox": (1.0, 2.0, 30.0, 40.0), "visible": True, "metadata": {"set": video["set"]}}
            for each in frame["objects"]
        ]
        for frame in video["frames"]
    }
    write(tmp_path, {key: person([1, 2, 3, 4]) for key in objects}, objects)
    (loaded,) = load(tmp_path, split="test")
    relations = [ground_truth_of(frame).relations for frame in loaded.frames]
    assert (len(loaded.frames), sum(map(len, relations))) == (38, 235)
    assert sum(len(frame.labels) for frame in loaded.frames) == 71


def test_a_frame_of_wrong_shape_is_refused(root: Path) -> None:
    frame = load(root)[0].frames[0]
    fields = {name: getattr(frame, name) for name in AnnotatedFrame.__slots__}
    with pytest.raises(DataError, match=r"predicates must have shape \(1, 26\), but has \(2, 26\)"):
        AnnotatedFrame(**{**fields, "predicates": frame.predicates.repeat(2, axis=0)})


def test_a_vocabulary_of_the_folders_own_is_read_and_a_malformed_one_refused(root: Path) -> None:
    assert read_vocabulary(root) is ACTION_GENOME
    path = root / "vocabulary.json"
    path.write_text('{"objects": ["person", "cup"], "groups": [{"name": "use", "predicates": ["fills"]}]}')
    assert read_vocabulary(root).predicates == ("fills",)
    with pytest.raises(DataError, match="object class 'table' is not in the vocabulary; the nearest is"):
        load(root)
    path.write_text('{"objects": ["person", "cup"], "groups": [{"name": "use", "predicates": []}]}')
    with pytest.raises(DataError, match=r"vocabulary\.json: groups\.0\.predicates: .* at least 1 item"):
        read_vocabulary(root)
    assert any("vocabulary.json" in problem for problem in check_data(root).problems)


def test_a_subject_of_no_such_name_is_refused(root: Path) -> None:
    rewrite(root, "person_bbox.pkl", lambda persons: persons["AAAAA.mp4/000010.png"].update({"class": "dog"}))
    with pytest.raises(DataError, match=r"'AAAAA\.mp4/000010\.png': class is 'dog', expected one of person"):
        load(root)

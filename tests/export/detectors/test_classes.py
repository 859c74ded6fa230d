"""Names of a detector's classes, and the objects of a vocabulary that they mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.detectors.classes import (
    KNOWN_CLASSES,
    match_classes,
    names_in_metadata,
    read_class_names,
    read_table,
    vocabulary_of_classes,
)
from export.errors import ExportError
from models.graph.vocabulary import ACTION_GENOME
from tests.support.networks import SMALL_WORLD


def test_a_text_file_has_one_class_a_line(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("person\n\ncup \nWein glas\n", "utf-8")
    assert read_class_names(str(file)) == ("person", "", "cup", "Wein glas")


def test_cocos_lists_come_with_the_code() -> None:
    assert [len(read_class_names(name)) for name in ("coco-80", "coco-90", "coco-91")] == [80, 90, 91]
    assert KNOWN_CLASSES["coco-91"][90] == KNOWN_CLASSES["coco-90"][89] == KNOWN_CLASSES["coco-80"][79] == "toothbrush"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00"])
def test_a_file_without_names_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    with pytest.raises(ExportError, match=r"one .*a line"):
        read_class_names(str(file))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ExportError, match="coco-80"):
        read_class_names("nowhere.txt")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'person', 2: 'dining table'}", ("person", "", "dining table")),
        ('{"0": "person", "1": "cup"}', ("person", "cup")),
        ('["person", "cup"]', ("person", "cup")),
        ("['person', 'it\\'s']", ("person", "it's")),
    ],
)
def test_names_in_metadata_are_json_or_python(text: str, names: tuple[str, ...]) -> None:
    assert names_in_metadata({"author": "x", "names": text}) == names


@pytest.mark.parametrize("text", ["__import__('os').getcwd()", "person", "{-1: 'person'}", "[1, 2]", "{" * 10_000, "3"])
def test_metadata_that_are_no_names_are_refused_and_never_run(text: str) -> None:
    with pytest.raises(ExportError, match="--classes"):
        names_in_metadata({"names": text})


def test_a_model_may_have_no_names() -> None:
    assert names_in_metadata({"stride": "32"}) is None


def test_classes_meet_the_vocabulary_by_name_by_word_and_by_synonym() -> None:
    names = ("Person", "wine_glass", "couch", "dining table", "cell phone", "tv", "giraffe", "N/A")
    assert match_classes(names, ACTION_GENOME) == {
        "Person": "person",
        "wine_glass": "cup/glass/bottle",
        "couch": "sofa/couch",
        "dining table": "table",
        "cell phone": "phone/camera",
        "tv": "television",
    }


def test_the_table_decides_before_the_name() -> None:
    table = match_classes(("person", "cup", "bench"), ACTION_GENOME, {"cup": "dish", "bench": None})
    assert table == {"person": "person", "cup": "dish"}


@pytest.mark.parametrize("given", [{"kite": "bag"}, {"cup": "kite"}])
def test_a_table_that_does_not_fit_is_refused(given: dict[str, str | None]) -> None:
    with pytest.raises(ExportError, match=r"'kite', which the (detector|vocabulary) does not have"):
        match_classes(("person", "cup"), ACTION_GENOME, given)


def test_a_table_is_a_json_object(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    file.write_text(json.dumps({"cup": "dish", "kite": None}))
    assert read_table(file) == {"cup": "dish", "kite": None}
    file.write_text("[1]")
    with pytest.raises(ExportError, match="JSON object"):
        read_table(file)


def test_half_of_cocos_classes_are_known_in_action_genome() -> None:
    table = match_classes(KNOWN_CLASSES["coco-80"], ACTION_GENOME)
    assert set(table.values()) == {
        "person", "bag", "bed", "book", "chair", "clothes", "cup/glass/bottle", "dish", "food", "laptop",
        "phone/camera", "refrigerator", "sandwich", "sofa/couch", "table", "television",
    }  # fmt: skip


def test_classes_may_become_the_vocabulary() -> None:
    vocabulary = vocabulary_of_classes(KNOWN_CLASSES["coco-91"], (), ACTION_GENOME)
    assert (len(vocabulary.objects), vocabulary.subjects) == (80, ("person",))
    assert vocabulary.groups == ACTION_GENOME.groups
    assert match_classes(vocabulary.objects, vocabulary) == {name: name for name in vocabulary.objects}


def test_the_subjects_of_kept_classes_can_be_named() -> None:
    vocabulary = vocabulary_of_classes(("Dog", "cat", "ball"), ("dog", "cat"), ACTION_GENOME)
    assert vocabulary.subjects == ("Dog", "cat")


@pytest.mark.parametrize(
    ("names", "subjects", "said"),
    [
        (("dog", "ball"), (), "--subject"),
        (("dog", "ball"), ("cat",), "'cat', which is not one of"),
        (("person",), (), "a thing as well"),
    ],
)
def test_kept_classes_without_subject_or_thing_are_refused(
    names: tuple[str, ...], subjects: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        vocabulary_of_classes(names, subjects, ACTION_GENOME)


def test_the_first_of_two_subjects_of_a_vocabulary_may_be_missing() -> None:
    assert vocabulary_of_classes(("robot", "box"), (), SMALL_WORLD).subjects == ("robot",)

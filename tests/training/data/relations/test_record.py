"""The format of relations without pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from training.data.relations import Pair, Record, read_records, write_records
from training.data.relations.formats import count_relations
from training.errors import DataError

BOXES = ((0.0, 0.0, 10.0, 20.0), (5.0, 5.0, 8.0, 9.0))


def moment(time: float, video: str = "one") -> Record:
    pair = Pair(subject=0, object=1, predicates=("holding",), asked=("holding", "eating"), related=True)
    return Record(source="mine", video=video, time=time, boxes=BOXES, labels=("person", "Tasse"), pairs=(pair,))


def test_a_file_gives_back_the_records_that_were_written(tmp_path: Path) -> None:
    records = [moment(0.0), moment(0.5), Record(source="mine", image="a.jpg", boxes=(), labels=(), pairs=())]
    assert write_records(tmp_path / "new" / "relations.jsonl", records) == 3
    assert list(read_records(tmp_path / "new" / "relations.jsonl")) == records
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["relations.jsonl"]


def test_an_interrupted_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "relations.jsonl"
    write_records(path, [moment(0.0)])

    def broken() -> object:
        yield moment(1.0)
        raise DataError("the source is damaged")

    with pytest.raises(DataError):
        write_records(path, broken())  # type: ignore[arg-type]
    assert list(read_records(path)) == [moment(0.0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ("person",)}, "2 boxes and 1 labels"),
        ({"boxes": ((0, 0, 0, 5), BOXES[1])}, "box 0 is .* which has no area"),
        ({"pairs": (Pair(subject=0, object=2),)}, "a pair names box 2, and there are 2"),
        ({"pairs": (Pair(subject=0, object=1), Pair(subject=0, object=1))}, "two pairs have the same boxes"),
        ({"time": None}, "video and time go together"),
        ({"boxes": ((0, 0, float("nan"), 5), BOXES[1])}, "finite number"),
    ],
)
def test_an_inconsistent_record_is_refused_with_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Record.model_validate(moment(0.0).model_dump() | change)


def test_a_predicate_that_holds_must_have_been_asked() -> None:
    with pytest.raises(ValidationError, match="predicates has 'holding', which asked lacks"):
        Pair(subject=0, object=1, predicates=("holding",), asked=("eating",))


def test_times_of_a_video_must_ascend(tmp_path: Path) -> None:
    write_records(tmp_path / "relations.jsonl", [moment(0.5), moment(0.0, "two"), moment(0.0, "two")])
    with pytest.raises(DataError, match=r"line 3: two goes from 0.0 s to 0.0 s; sort its lines by time"):
        list(read_records(tmp_path / "relations.jsonl"))


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "relations.jsonl"
    write_records(path, [moment(0.0)])
    path.write_text(path.read_text() + '{"source": "mine"}\n')
    counts = count_relations(path)
    assert counts.problem is not None
    assert "line 2: boxes: Field required" in counts.problem
    assert counts.pictures == 1


def test_counts_say_what_holds_of_what_was_asked(tmp_path: Path) -> None:
    write_records(tmp_path / "relations.jsonl", [moment(0.0), moment(0.5), moment(0.0, "two")])
    assert count_relations(tmp_path / "relations.jsonl").as_json() == {
        "ok": True, "problem": None, "pictures": 3, "videos": 2, "pairs": 3, "unrelated": 0,
        "predicates": {"eating": {"holds": 0, "asked": 3}, "holding": {"holds": 3, "asked": 3}},
    }  # fmt: skip

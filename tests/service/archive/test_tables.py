"""The rows of a graph."""

from __future__ import annotations

from service.archive.tables import TABLES, video_key
from tests.support.archives import GRAPH, problem_of, rows_of


def test_relations_carry_labels_owner_and_sampling_interval() -> None:
    rows = rows_of("a", "me")["relations"].to_pylist()
    shared = {"video": video_key("a"), "owner": "me", "interval": 0.5}
    assert rows == [
        shared | relation.model_dump() | {"subject_label": subject, "object_label": thing}
        for relation, subject, thing in zip(
            GRAPH.relations,
            ("person", "cup/glass/bottle", "person"),
            ("cup/glass/bottle", "person", "chair"),
            strict=True,
        )
    ]


def test_objects_last_to_one_interval_after_they_are_seen_but_not_beyond_the_video() -> None:
    rows = rows_of("a")["objects"].to_pylist()
    assert [(row["id"], row["label"], row["first"], row["last"], row["frames"], row["score"]) for row in rows] == [
        (1, "person", 0.0, 1.75, 2, 0.9),
        (2, "cup/glass/bottle", 0.0, 1.5, 2, 0.9),
        (7, "chair", 1.5, 1.75, 1, 0.9),
    ]


def test_frames_are_kept_only_when_asked_for_and_then_whole() -> None:
    assert "frames" not in rows_of("a", with_frames=False)
    rows = rows_of("a")["frames"].to_pylist()
    kept = [{name: row[name] for name in ("index", "timestamp", "objects", "triplets")} for row in rows]
    expected = [frame.model_dump() for frame in GRAPH.frames]
    assert kept == [
        frame | {"objects": [thing | {"box": list(thing["box"])} for thing in frame["objects"]]} for frame in expected
    ]


def test_a_video_with_a_problem_has_a_row_and_no_graph() -> None:
    tables = problem_of("a")
    [row] = tables["videos"].to_pylist()
    assert list(tables) == ["videos"]
    assert (row["problem"], row["problem_detail"], row["graph_id"], row["frames"]) == (
        "video_unreadable",
        "no frame",
        None,
        0,
    )


def test_all_tables_begin_with_the_same_columns() -> None:
    assert {tuple(schema.names[:3]) for schema in TABLES.values()} == {("video", "owner", "interval")}


def test_a_key_differs_with_every_part_and_however_they_are_cut() -> None:
    keys = {video_key(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("ab", "d"))}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {12}

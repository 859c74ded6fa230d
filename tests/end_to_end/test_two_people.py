"""Two people in one video, each at a table: both get their own relations, from the model to the prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Server
from tests.support.bundles import make_two_people_bundle


def test_two_people_at_two_tables_get_their_own_relations(
    start_server: Callable[..., Server], clip: Path, tmp_path: Path
) -> None:
    server = start_server(bundles=(make_two_people_bundle(tmp_path / "two-people"),))
    graph = server.post(clip).json()
    first, *_ = graph["frames"]
    labels = {thing["id"]: thing["label"] for thing in first["objects"]}
    assert sorted(labels.values()) == ["person", "person", "table", "table"]
    left, right = (
        {each["label"]: each["id"] for each in sorted(first["objects"], key=lambda each: each["box"][0])[side]}
        for side in (slice(0, 2), slice(2, 4))
    )
    held = {(relation["subject"], relation["predicate"], relation["object"]) for relation in graph["relations"]}
    assert held == {
        (left["person"], "looking_at", left["table"]),
        (left["table"], "in_front_of", left["person"]),
        (left["person"], "touching", left["table"]),
        (right["person"], "not_looking_at", right["table"]),
        (right["table"], "behind", right["person"]),
        (right["person"], "sitting_on", right["table"]),
    }
    assert all(frame["triplets"] for frame in graph["frames"]), "both stay through the video"
    assert {thing["id"] for frame in graph["frames"] for thing in frame["objects"]} == labels.keys()
    assert "The first person" in graph["prompt"]
    assert "the second person" in graph["prompt"].lower()

"""Ids of a graph against the identities of a puppet story."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.tracking import PERSON, Boxes, Video, compare, figures
from models.graph.scene_graph import Frame, SceneObject
from training.data.puppets.story import Scene, Story, make_story
from training.data.puppets.world import DEMANDING_1

TIMES = [0.5 * index for index in range(12)]


@pytest.fixture(scope="module")
def story() -> Story:
    """A story with things that nobody relates to."""
    return next(
        story for seed in range(9_400_000, 9_400_050) if (story := make_story(DEMANDING_1, seed)).scene(0.0).distractors
    )


def frame(index: int, objects: Sequence[tuple[int, str, Any]]) -> Frame:
    shown = [SceneObject(id=identity, label=label, score=0.9, box=box) for identity, label, box in objects]
    return Frame(index=index, timestamp=TIMES[index], objects=shown, triplets=[])


def perfect(scene: Scene) -> list[tuple[int, str, Any]]:
    things = [(2 + thing.identity, thing.name, thing.box) for thing in scene.things if thing.visible]
    return [(1, PERSON, scene.person_box), *things]


def measured(video: Video) -> dict[str, float]:
    pytest.importorskip("trackeval", reason="trackeval is not installed: see benchmarks/tracking.py")
    return figures([video])


def test_a_perfect_graph_has_perfect_ids(story: Story) -> None:
    frames = [frame(index, perfect(story.scene(time))) for index, time in enumerate(TIMES)]
    found = measured(compare(story, frames))
    assert (found["HOTA"], found["DetA"], found["AssA"], found["IDF1"]) == pytest.approx((1.0, 1.0, 1.0, 1.0))
    assert (found["switches"], found["fragments"]) == (0, 0)


def test_an_id_that_changes_halfway_costs_association_alone(story: Story) -> None:
    frames = [
        frame(index, [(identity + 100 * (index >= 6), *rest) for identity, *rest in perfect(story.scene(time))])
        for index, time in enumerate(TIMES)
    ]
    found = measured(compare(story, frames))
    assert found["DetA"] == pytest.approx(1.0)
    assert found["AssA"] < 0.7
    assert found["switches"] > 0


def test_what_the_annotations_leave_out_counts_neither_way(story: Story) -> None:
    frames = [
        frame(
            index,
            [*perfect(scene), *((50 + number, name, box) for number, (name, box) in enumerate(scene.distractors))],
        )
        for index, time in enumerate(TIMES)
        if (scene := story.scene(time))
    ]
    video = compare(story, frames)
    assert all(50 not in boxes.ids for boxes in video.found)
    assert [len(boxes.ids) for boxes in video.found] == [len(boxes.ids) for boxes in video.truth]


def test_boxes_of_other_labels_do_not_match() -> None:
    cup, table = Boxes.of([(1, "cup", (0, 0, 9, 9))]), Boxes.of([(1, "table", (0, 0, 9, 9))])
    assert cup.similarities(cup).tolist() == [[1.0]]
    assert cup.similarities(table).tolist() == [[0.0]]
    assert cup.similarities(Boxes.of([])).shape == (1, 0)

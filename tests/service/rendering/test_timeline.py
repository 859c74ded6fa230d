"""Boxes and triplets between, before and after the sampled frames."""

from __future__ import annotations

import pytest

from models.graph.scene_graph import Box
from service.rendering.drawing import Timeline
from tests.support.graphs import frame, scene_graph

STAYS: Box = (0.0, 0.0, 10.0, 10.0)


def timeline(start: float = 0.0) -> Timeline:
    """A person moves and a cup goes; after a second, a chair has come."""
    return Timeline(
        scene_graph(
            [
                frame(0, start, [(1, "person", (0, 0, 20, 40)), (2, "cup/glass/bottle", STAYS)], [(1, "holding", 2)]),
                frame(1, start + 1, [(1, "person", (40, 8, 60, 40)), (3, "chair", STAYS)], [(1, "sitting_on", 3)]),
            ],
            size=(100, 50),
        )
    )


@pytest.mark.parametrize(
    ("time", "box"),
    [(0.0, (0, 0, 20, 40)), (0.25, (10, 2, 30, 40)), (0.75, (30, 6, 50, 40)), (1.0, (40, 8, 60, 40))],
)
def test_a_box_moves_evenly_from_one_sampled_frame_to_the_next(time: float, box: Box) -> None:
    assert timeline().at(time).objects[0].box == pytest.approx(box)


def test_an_object_missing_from_the_next_sampled_frame_stays_in_place_until_then() -> None:
    assert [(thing.id, thing.box) for thing in timeline().at(0.9).objects][1:] == [(2, STAYS)]
    assert [thing.id for thing in timeline().at(1.0).objects] == [1, 3]


def test_triplets_are_those_of_the_last_sampled_frame() -> None:
    assert [triplet.predicate for triplet in timeline().at(0.99).triplets] == ["holding"]
    assert [triplet.predicate for triplet in timeline().at(1.0).triplets] == ["sitting_on"]


def test_there_is_nothing_before_the_first_sampled_frame() -> None:
    assert not timeline(start=3.0).at(2.9).objects
    assert timeline(start=3.0).at(2.9996).objects, "containers round times"


def test_the_last_sampled_frame_holds_for_one_interval() -> None:
    assert [thing.id for thing in timeline().at(1.9).objects] == [1, 3]
    assert not timeline().at(2.0).objects
    assert not timeline().at(2.0).triplets


def test_a_graph_without_frames_shows_nothing() -> None:
    assert not Timeline(scene_graph([], size=(10, 10))).at(0.0).objects

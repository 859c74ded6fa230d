"""Choice of pairs among the boxes and class scores of any detector."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.errors import ConfigurationError
from models.graph.vocabulary import ACTION_GENOME
from models.networks.detectors.choosing import Choosing, ChoosingConfig
from tests.support.networks import SMALL_WORLD

NAMES = ("man", "woman", "cup", "wine glass", "couch", "kite")
TABLE = {
    "man": "person",
    "woman": "person",
    "cup": "cup/glass/bottle",
    "wine glass": "cup/glass/bottle",
    "couch": "sofa/couch",
}
CONFIG = ChoosingConfig(pairs=8, persons=3, things=4, clip_length=4)
CUP, SOFA = (ACTION_GENOME.object_index[name] for name in ("cup/glass/bottle", "sofa/couch"))
LEFT, RIGHT = (0.1, 0.1, 0.2, 0.9), (0.8, 0.1, 0.9, 0.9)


def make(config: ChoosingConfig = CONFIG, **changes: Any) -> Choosing:
    """A choice among boxes of a frame of 100x100 pixels."""
    given = {"names": NAMES, "table": TABLE, "vocabulary": ACTION_GENOME, "frame_size": (100, 100)} | changes
    return Choosing(config, **given)


def detections(*rows: tuple[tuple[float, ...], dict[str, float]]) -> tuple[Tensor, Tensor]:
    """One frame: each row is a box and the scores of its classes."""
    boxes = torch.tensor([[box for box, _ in rows]]).reshape(1, -1, 4)
    scores = torch.tensor([[[scores.get(name, 0.0) for name in NAMES] for _, scores in rows]])
    return boxes, scores.reshape(1, -1, len(NAMES))


def choose(choosing: Choosing, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
    return dict(zip(choosing.outputs, choosing(boxes, scores), strict=True))


def pairs_of(chosen: dict[str, Tensor], frame: int = 0) -> set[tuple[float, float]]:
    """The left edges of the subject and the object of each pair."""
    mask = chosen["pair_mask"][frame]
    edges = [chosen[name][frame][mask][:, 0].tolist() for name in ("subject_boxes", "object_boxes")]
    return {(round(left, 2), round(right, 2)) for left, right in zip(*edges, strict=True)}


def test_classes_become_the_vocabularys_objects() -> None:
    frame = detections(
        (LEFT, {"woman": 0.9, "man": 0.4}), ((0.2, 0.5, 0.3, 0.6), {"cup": 0.3, "wine glass": 0.7, "kite": 0.95})
    )
    chosen = choose(make(), *frame)
    assert chosen["pair_mask"].sum() == 1
    assert chosen["subject_scores"][0, 0].item() == pytest.approx(0.9)
    scores = chosen["object_scores"][0, 0]
    assert scores[CUP].item() == pytest.approx(0.7), "the better of two classes that mean one object"
    assert scores.count_nonzero() == 1, "kites are not of this vocabulary"
    assert torch.allclose(chosen["object_boxes"][0, 0], torch.tensor((0.2, 0.5, 0.3, 0.6)))


def test_boxes_of_one_object_that_overlap_are_one_thing() -> None:
    same = [((0.2 + shift, 0.5, 0.4 + shift, 0.7), {"cup": 0.8 - shift}) for shift in (0.0, 0.01, 0.02)]
    frame = detections((LEFT, {"man": 0.9}), *same, ((0.2, 0.5, 0.4, 0.7), {"couch": 0.6}))
    chosen = choose(make(), *frame)
    found = chosen["object_scores"][0][chosen["pair_mask"][0]]
    assert [row.argmax().item() for row in found] == [CUP, SOFA], "suppression is per object"
    assert found.amax(-1).tolist() == pytest.approx([0.8, 0.6])


def test_two_boxes_of_one_person_are_one_subject() -> None:
    frame = detections(
        (LEFT, {"man": 0.9}), ((0.11, 0.1, 0.2, 0.9), {"woman": 0.8}), ((0.2, 0.5, 0.3, 0.6), {"cup": 0.8})
    )
    chosen = choose(make(), *frame)
    assert chosen["pair_mask"].sum() == 1
    assert chosen["person_boxes"][0].any(-1).sum() == 1


def test_persons_are_paired_with_what_is_near_them() -> None:
    frame = detections(
        (LEFT, {"man": 0.9}), (RIGHT, {"woman": 0.8}),
        ((0.22, 0.5, 0.28, 0.6), {"cup": 0.7}), ((0.7, 0.5, 0.78, 0.6), {"couch": 0.6}),
    )  # fmt: skip
    chosen = choose(make(), *frame)
    assert pairs_of(chosen) == {(0.1, 0.22), (0.8, 0.7)}
    mask = chosen["pair_mask"][0]
    whose = chosen["person_boxes"][0][chosen["person_of_pair"][0][mask]]
    assert torch.equal(whose, chosen["subject_boxes"][0][mask])


def test_distances_are_measured_on_the_frame() -> None:
    """In a wide frame, half the width is farther than half the height of a person."""
    frame = detections(
        (LEFT, {"man": 0.9}), (RIGHT, {"woman": 0.8}), ((0.21, 0.4, 0.45, 0.6), {"cup": 0.7})
    )  # fmt: skip
    assert pairs_of(choose(make(frame_size=(100, 100)), *frame)) == {(0.1, 0.21), (0.8, 0.21)}
    assert pairs_of(choose(make(frame_size=(100, 300)), *frame)) == {(0.1, 0.21)}


def test_a_person_without_a_thing_has_a_box_and_a_score() -> None:
    frame = detections((LEFT, {"man": 0.8}), (RIGHT, {"woman": 0.9}), ((0.5, 0.5, 0.6, 0.6), {"kite": 0.9}))
    chosen = choose(make(), *frame)
    assert not chosen["pair_mask"].any()
    assert chosen["person_boxes"][0].flatten().tolist() == pytest.approx([*RIGHT, *LEFT, 0, 0, 0, 0])
    assert chosen["person_scores"][0].tolist() == pytest.approx([0.9, 0.8, 0.0])


@pytest.mark.parametrize("rows", [[], [((0.2, 0.5, 0.3, 0.6), {"cup": 0.9})], [(LEFT, {"man": 0.05})]])
def test_a_frame_with_nobody_has_no_pairs(rows: Any) -> None:
    chosen = choose(make(), *detections(*rows))
    assert not any(tensor.any() for tensor in chosen.values())
    assert chosen["pair_mask"].shape == (1, 8)
    assert chosen["person_boxes"].shape == (1, 3, 4)


def test_a_crowd_with_many_things_fills_all_slots() -> None:
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 230, 2, generator=random) * 0.8
    boxes = torch.cat((corners, corners + torch.rand(2, 230, 2, generator=random) * 0.2), -1)
    scores = torch.zeros(2, 230, len(NAMES))
    scores[:, :30, 0] = 0.5 + 0.4 * torch.rand(2, 30, generator=random)
    scores[:, 30:, 2] = 0.5 + 0.4 * torch.rand(2, 200, generator=random)
    config = ChoosingConfig(pairs=20, persons=10, things=20, clip_length=4)
    chosen = choose(make(config), boxes, scores)
    assert chosen["pair_mask"].all()
    assert all(tensor.isfinite().all() for tensor in chosen.values())
    for frame in range(2):
        persons = chosen["person_boxes"][frame]
        assert torch.equal(persons[chosen["person_of_pair"][frame]], chosen["subject_boxes"][frame])
        assert len({tuple(row.tolist()) for row in chosen["object_boxes"][frame]}) > 1


def test_each_frame_is_chosen_by_itself() -> None:
    one = detections((LEFT, {"man": 0.9}), ((0.2, 0.5, 0.3, 0.6), {"cup": 0.7}))
    two = detections((RIGHT, {"man": 0.8}), ((0.7, 0.5, 0.78, 0.6), {"couch": 0.6}))
    both = choose(make(), torch.cat((one[0], two[0])), torch.cat((one[1], two[1])))
    for frame, alone in enumerate((one, two)):
        expected = choose(make(), *alone)
        assert all(torch.equal(both[name][frame], tensor[0]) for name, tensor in expected.items())


def test_with_several_kinds_of_subjects_each_pair_says_its_own() -> None:
    names = ("human", "arm", "box")
    choosing = make(names=names, table={"human": "person", "arm": "robot", "box": "crate"}, vocabulary=SMALL_WORLD)
    boxes = torch.tensor([[LEFT, RIGHT, (0.22, 0.5, 0.3, 0.6), (0.7, 0.5, 0.78, 0.6)]])
    scores = torch.tensor([[[0.9, 0.2, 0.0], [0.1, 0.8, 0.0], [0.0, 0.0, 0.7], [0.0, 0.0, 0.6]]])
    chosen = choose(choosing, boxes, scores)
    mask = chosen["pair_mask"][0]
    kinds = [SMALL_WORLD.objects[index] for index in chosen["subject_classes"][0][mask].tolist()]
    assert kinds == ["person", "robot"]
    person, robot = (SMALL_WORLD.object_index[name] for name in ("person", "robot"))
    assert chosen["person_classes"][0].tolist() == [person, robot, 0]


def test_the_best_candidates_are_kept() -> None:
    weak = [((0.5, 0.01 * place, 0.55, 0.01 * place + 0.005), {"cup": 0.2}) for place in range(20)]
    frame = detections(*weak, (LEFT, {"man": 0.9}), ((0.2, 0.5, 0.3, 0.6), {"couch": 0.7}))
    chosen = choose(make(replace(CONFIG, candidates=4)), *frame)
    assert (0.1, 0.2) in pairs_of(chosen)


@pytest.mark.parametrize(
    ("table", "said"), [({"cup": "cup/glass/bottle"}, "subjects"), ({"man": "person"}, "things"), ({}, "subjects")]
)
def test_a_detector_without_subjects_or_things_is_refused(table: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make(table=table)


@pytest.mark.parametrize("numbers", [{"pairs": 3, "things": 4}, {"pairs": 13, "things": 4, "persons": 3}])
def test_a_number_of_pairs_that_cannot_be_is_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="pairs is"):
        ChoosingConfig(**numbers)

"""Trajectories against a loop over the pairs of a clip."""

from __future__ import annotations

import pytest
import torch

from models.networks.relations.trajectories import follow, gather_slots, same_person
from tests.models.networks.relations.samples import pairs_with


@pytest.mark.parametrize("seed", range(4))
def test_trajectories_equal_a_loop_over_slots(seed: int) -> None:
    torch.manual_seed(seed)
    labels, mask = torch.randint(1, 4, (3, 4, 3)), torch.rand(3, 4, 3) < 0.6
    trajectories = follow(pairs_with(labels, mask))
    for batch in range(3):
        label, real = labels[batch].flatten().tolist(), mask[batch].flatten().tolist()
        last: dict[int, int] = {}
        seen: dict[int, int] = {}
        for slot, (name, there) in enumerate(zip(label, real, strict=True)):
            same = [there and real[other] and label[other] == name for other in range(12)]
            assert trajectories.same[batch, slot].tolist() == same
            if not there:
                continue
            assert trajectories.position[batch, slot] == seen.get(name, 0)
            assert trajectories.first[batch, slot] == (name not in last)
            assert trajectories.previous[batch, slot] == last.get(name, slot)
            last[name], seen[name] = slot, seen.get(name, 0) + 1


def test_an_empty_slot_is_alone_its_own_predecessor_and_the_first() -> None:
    mask = torch.tensor([[[True, False], [False, True]]])
    trajectories = follow(pairs_with(torch.ones(1, 2, 2, dtype=torch.int64), mask))
    assert not trajectories.same[0, 1].any()
    assert not trajectories.same[0, :, 1].any()
    assert trajectories.previous.tolist() == [[0, 1, 2, 0]]
    assert trajectories.first.tolist() == [[True, True, True, False]]
    assert trajectories.position.tolist() == [[0, 0, 0, 1]]


def test_pairs_of_two_persons_who_walk_are_never_joined() -> None:
    # Both hold one class of thing; slots change places from frame to frame, and in one frame a person is missing.
    left, right = torch.tensor((0.1, 0.1, 0.3, 0.9)), torch.tensor((0.6, 0.2, 0.8, 0.9))
    step = torch.tensor((0.05, 0.0, 0.05, 0.0))
    people = torch.tensor([[0, 1], [1, 0], [1, 1], [0, 1]])
    mask = torch.ones(1, 4, 2, dtype=torch.bool)
    mask[0, 2, 1] = False
    moved = torch.stack([torch.stack((left + time * step, right + time * step)) for time in range(4)])  # (T, 2, 4)
    boxes = moved.gather(1, people[..., None].expand(-1, -1, 4))[None]
    trajectories = follow(pairs_with(torch.full((1, 4, 2), 5), mask, boxes))
    who, real = people.flatten(), mask.flatten()
    wanted = (who[:, None] == who) & real[:, None] & real
    assert torch.equal(trajectories.same[0], wanted)
    assert trajectories.previous[0].tolist() == [0, 1, 1, 0, 2, 5, 3, 4]
    assert trajectories.position[0].tolist() == [0, 0, 1, 1, 2, 0, 2, 3]


def test_one_person_a_frame_is_always_the_same() -> None:
    torch.manual_seed(0)
    mask = torch.rand(2, 6, 3) < 0.7
    real = mask.flatten(1)
    both = real[:, :, None] & real[:, None]
    assert same_person(pairs_with(torch.ones(2, 6, 3, dtype=torch.int64), mask))[both].all()


def test_gather_slots_returns_the_slots_asked_for() -> None:
    values = torch.arange(12.0).reshape(2, 3, 2)
    gathered = gather_slots(values, torch.tensor([[2, 0, 0], [1, 1, 2]]))
    assert gathered.tolist() == [[[4, 5], [0, 1], [0, 1]], [[8, 9], [8, 9], [10, 11]]]

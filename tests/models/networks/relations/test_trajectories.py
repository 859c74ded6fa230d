"""Trajectories against a loop over the pairs of a clip."""

from __future__ import annotations

import pytest
import torch

from models.networks.relations.trajectories import follow, gather_slots


@pytest.mark.parametrize("seed", range(4))
def test_trajectories_equal_a_loop_over_slots(seed: int) -> None:
    torch.manual_seed(seed)
    labels, mask = torch.randint(1, 4, (3, 4, 3)), torch.rand(3, 4, 3) < 0.6
    trajectories = follow(labels, mask)
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
    trajectories = follow(torch.ones(1, 2, 2, dtype=torch.int64), torch.tensor([[[True, False], [False, True]]]))
    assert not trajectories.same[0, 1].any()
    assert not trajectories.same[0, :, 1].any()
    assert trajectories.previous.tolist() == [[0, 1, 2, 0]]
    assert trajectories.first.tolist() == [[True, True, True, False]]
    assert trajectories.position.tolist() == [[0, 0, 0, 1]]


def test_gather_slots_returns_the_slots_asked_for() -> None:
    values = torch.arange(12.0).reshape(2, 3, 2)
    gathered = gather_slots(values, torch.tensor([[2, 0, 0], [1, 1, 2]]))
    assert gathered.tolist() == [[[4, 5], [0, 1], [0, 1]], [[8, 9], [8, 9], [10, 11]]]

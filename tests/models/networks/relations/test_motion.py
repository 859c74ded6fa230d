"""MoSA's motion features against loops written by hand, and the modules around them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.graph.vocabulary import ACTION_GENOME
from models.networks.relations.motion import (
    MotionConcatenation,
    MotionFeatures,
    MotionInteraction,
    motion_attributes,
    previous_occurrences,
)
from models.networks.relations.pairs import Pairs
from tests.models.networks.relations.samples import random_boxes

Slot = tuple[int, int]
CUP, BOOK = ACTION_GENOME.object_index["cup/glass/bottle"], ACTION_GENOME.object_index["book"]


def pairs_of(mask: Tensor, labels: Tensor, subject_boxes: Tensor, object_boxes: Tensor, timestamps: Tensor) -> Pairs:
    """Pairs of which only boxes, classes and times matter, of one person a frame (B, T, 4)."""
    batch, time, slots = mask.shape
    return Pairs(
        mask=mask,
        subject_boxes=subject_boxes[:, :, None].expand(-1, -1, slots, -1),
        subject_scores=torch.ones(batch, time, slots),
        object_boxes=object_boxes,
        object_scores=torch.nn.functional.one_hot(labels, len(ACTION_GENOME.objects)).float(),
        subject_features=torch.zeros(batch, time, slots, 1),
        object_features=torch.zeros(batch, time, slots, 1),
        union_features=torch.zeros(batch, time, slots, 1, 1, 1),
        timestamps=timestamps,
    )


def random_pairs(batch: int, time: int, slots: int, seed: int = 0) -> Pairs:
    """Few classes, so that some frames lack a class and others hold it twice; uneven times, some of them equal."""
    torch.manual_seed(seed)
    steps = torch.randint(0, 4, (batch, time)) / 4
    return pairs_of(
        torch.rand(batch, time, slots) < 0.6,
        torch.randint(1, 4, (batch, time, slots)),
        random_boxes(batch, time),
        random_boxes(batch, time, slots),
        steps.cumsum(1),
    )


def scene(boxes: list[list[float]], subjects: list[list[float]], seconds: list[float], label: int = CUP) -> Pairs:
    """One clip with one pair in each frame."""
    time = len(boxes)
    return pairs_of(
        torch.ones(1, time, 1, dtype=torch.bool),
        torch.full((1, time, 1), label),
        torch.tensor([subjects]),
        torch.tensor([boxes])[:, :, None],
        torch.tensor([seconds]),
    )


def centre(box: Tensor) -> tuple[float, float]:
    x1, y1, x2, y2 = box.tolist()
    return (x1 + x2) / 2, (y1 + y2) / 2


def box_iou(first: Tensor, second: Tensor) -> float:
    (a, b, c, d), (e, f, g, h) = first.tolist(), second.tolist()
    common = max(0.0, min(c, g) - max(a, e)) * max(0.0, min(d, h) - max(b, f))
    return common / ((c - a) * (d - b) + (g - e) * (h - f) - common)


def occurrence_before(pairs: Pairs, clip: int, slot: Slot) -> Slot | None:
    """The nearest object of the class in the latest earlier frame that has one."""
    labels, (time, place) = pairs.labels[clip], slot
    here = centre(pairs.object_boxes[clip, time, place])
    for earlier in range(time - 1, -1, -1):
        candidates = [
            other
            for other in range(labels.shape[1])
            if pairs.mask[clip, earlier, other] and labels[earlier, other] == labels[time, place]
        ]
        if candidates:
            distances = [math.dist(here, centre(pairs.object_boxes[clip, earlier, other])) for other in candidates]
            return earlier, candidates[distances.index(min(distances))]
    return None


def attributes_by_hand(pairs: Pairs, clip: int, slot: Slot, window: int) -> list[float]:
    def subject(time: int) -> Tensor:
        return pairs.subject_boxes[clip, time, 0]

    def thing(slot: Slot) -> Tensor:
        return pairs.object_boxes[clip, slot[0], slot[1]]

    def distance(slot: Slot) -> float:
        return math.dist(centre(subject(slot[0])), centre(thing(slot))) / math.sqrt(2)

    overlaps: list[float] = []
    current: Slot | None = slot
    while current is not None and len(overlaps) < window:
        overlaps.append(box_iou(subject(current[0]), thing(current)))
        current = occurrence_before(pairs, clip, current)
    velocity = agreement = 0.0
    before = occurrence_before(pairs, clip, slot)
    if before is not None:
        passed = (pairs.timestamps[clip, slot[0]] - pairs.timestamps[clip, before[0]]).item()
        if passed > 0:
            velocity = (distance(slot) - distance(before)) / passed
        (ax, ay), (bx, by) = centre(subject(slot[0])), centre(subject(before[0]))
        (cx, cy), (dx, dy) = centre(thing(slot)), centre(thing(before))
        lengths = math.hypot(ax - bx, ay - by) * math.hypot(cx - dx, cy - dy)
        agreement = ((ax - bx) * (cx - dx) + (ay - by) * (cy - dy)) / lengths
    return [distance(slot), velocity, sum(overlaps) / len(overlaps), agreement]


@pytest.mark.parametrize("window", [1, 3, 5])
def test_attributes_agree_with_loops_over_frames_and_pairs(window: int) -> None:
    pairs = random_pairs(3, 8, 4)
    attributes = motion_attributes(pairs, window)
    assert attributes.shape == (3, 8, 4, 4)
    twice, gaps = 0, 0
    for clip, time, place in pairs.mask.nonzero().tolist():
        wanted = attributes_by_hand(pairs, clip, (time, place), window)
        assert attributes[clip, time, place].tolist() == pytest.approx(wanted, abs=1e-4)
        label = pairs.labels[clip, time, place]
        twice += ((pairs.labels[clip, time] == label) & pairs.mask[clip, time]).sum().item() > 1
        before = occurrence_before(pairs, clip, (time, place))
        gaps += before is not None and before[0] < time - 1
    assert twice > 10, "the clips have frames with two objects of a class"
    assert gaps > 10, "the clips have objects that are away for a while"


def test_occurrences_before_agree_with_loops() -> None:
    pairs = random_pairs(2, 6, 5, seed=1)
    previous, seen = previous_occurrences(pairs)
    for clip, time, place in pairs.mask.nonzero().tolist():
        before, slot = occurrence_before(pairs, clip, (time, place)), time * 5 + place
        assert seen[clip, slot].item() == (before is not None)
        assert previous[clip, slot].item() == (slot if before is None else before[0] * 5 + before[1])
    empty = ~pairs.mask.flatten(1)
    assert not seen[empty].any()
    assert torch.equal(previous[empty], torch.arange(30).expand(2, -1)[empty])


def test_two_cups_in_a_frame_are_not_one_moving_cup() -> None:
    left, right = [0.1, 0.4, 0.2, 0.5], [0.8, 0.4, 0.9, 0.5]
    boxes = torch.tensor([[[left, right], [right, left], [left, right]]])
    pairs = pairs_of(
        torch.ones(1, 3, 2, dtype=torch.bool),
        torch.full((1, 3, 2), CUP),
        torch.tensor([[[0.4, 0.3, 0.6, 0.7]]]).expand(1, 3, 4),
        boxes,
        torch.tensor([[0.0, 1.0, 2.0]]),
    )
    attributes = motion_attributes(pairs, 5)
    assert attributes[..., 1].abs().max() < 1e-6
    assert attributes[..., 3].abs().max() == 0


def test_the_cups_of_two_persons_are_followed_each_with_its_own() -> None:
    # Both cups come to the same place, from which the one that belongs to the person is followed.
    left, right = [0.0, 0.3, 0.2, 0.7], [0.8, 0.3, 1.0, 0.7]
    cups = torch.tensor(
        [[[[0.2, 0.4, 0.3, 0.5], [0.7, 0.4, 0.8, 0.5]], [[0.7, 0.4, 0.8, 0.5], [0.45, 0.4, 0.55, 0.5]]]]
    )
    pairs = pairs_of(
        torch.ones(1, 2, 2, dtype=torch.bool),
        torch.full((1, 2, 2), CUP),
        torch.zeros(1, 2, 4),
        cups,
        torch.tensor([[0.0, 1.0]]),
    )
    pairs = replace(pairs, subject_boxes=torch.tensor([[[left, right], [right, left]]]))
    previous, seen = previous_occurrences(pairs)
    assert previous[0].tolist() == [0, 1, 1, 0]
    assert seen[0].tolist() == [False, False, True, True]


def test_motion_of_an_approaching_cup_equals_a_case_by_hand() -> None:
    person = [0.4, 0.4, 0.6, 0.6]
    shifted = [0.4, 0.3, 0.6, 0.5]
    pairs = scene(
        boxes=[[0.8, 0.4, 1.0, 0.6], [0.6, 0.4, 0.8, 0.6], [0.5, 0.3, 0.7, 0.5]],
        subjects=[person, person, shifted],
        seconds=[1.0, 1.5, 3.5],
    )
    attributes = motion_attributes(pairs, 5)[0, :, 0]
    distances = [0.4 / math.sqrt(2), 0.2 / math.sqrt(2), 0.1 / math.sqrt(2)]
    assert attributes[:, 0].tolist() == pytest.approx(distances, abs=1e-6)
    velocities = [0, (distances[1] - distances[0]) / 0.5, (distances[2] - distances[1]) / 2]
    assert attributes[:, 1].tolist() == pytest.approx(velocities, abs=1e-6)
    # The last boxes share half of each: one third of their union.
    assert attributes[:, 2].tolist() == pytest.approx([0, 0, 1 / 9], abs=1e-6)
    # First nothing, then a person who stands still, then up against up and left.
    assert attributes[:, 3].tolist() == pytest.approx([0, 0, math.cos(math.pi / 4)], abs=1e-5)


def test_frames_at_the_same_time_have_zero_velocity() -> None:
    person = [0.4, 0.4, 0.6, 0.6]
    pairs = scene([[0.8, 0.4, 1.0, 0.6], [0.6, 0.4, 0.8, 0.6]], [person, person], [2.0, 2.0])
    assert motion_attributes(pairs, 5)[0, :, 0, 1].tolist() == [0, 0]


def test_a_first_occurrence_has_neither_velocity_nor_direction() -> None:
    attributes = motion_attributes(random_pairs(2, 1, 4), 5)
    assert attributes[..., 1].abs().max() == 0
    assert attributes[..., 3].abs().max() == 0


def test_another_class_does_not_count_as_an_earlier_occurrence() -> None:
    pairs = random_pairs(1, 2, 1)
    scores = torch.nn.functional.one_hot(torch.tensor([[[CUP], [BOOK]]]), len(ACTION_GENOME.objects)).float()
    pairs = replace(pairs, mask=torch.ones(1, 2, 1, dtype=torch.bool), object_scores=scores)
    assert not previous_occurrences(pairs)[1].any()


def test_empty_slots_change_nothing() -> None:
    pairs = random_pairs(3, 6, 4)
    empty = ~pairs.mask
    changed = replace(
        pairs,
        object_boxes=torch.where(empty[..., None], random_boxes(3, 6, 4), pairs.object_boxes),
        object_scores=torch.where(empty[..., None], torch.rand(3, 6, 4, 36), pairs.object_scores),
    )
    assert torch.equal(motion_attributes(pairs, 5)[pairs.mask], motion_attributes(changed, 5)[pairs.mask])


def test_frames_without_pairs_and_boxes_without_size_are_finite() -> None:
    pairs = random_pairs(2, 4, 3)
    nothing = replace(
        pairs,
        mask=torch.zeros_like(pairs.mask),
        object_boxes=torch.zeros_like(pairs.object_boxes),
        subject_boxes=torch.zeros_like(pairs.subject_boxes),
    )
    assert motion_attributes(nothing, 5).isfinite().all()
    assert MotionFeatures(8, 4, 5)(nothing).isfinite().all()
    assert MotionInteraction(8, 2, 0.0)(torch.randn(2, 4, 3, 8), torch.randn(2, 4, 3, 8), nothing.mask).isfinite().all()


def test_interaction_is_attention_over_the_pairs_of_the_frame() -> None:
    torch.manual_seed(0)
    module = MotionInteraction(8, 1, 0.0)
    spatial, motion = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    mask = torch.tensor([[[True, False, True], [True, True, False]]])
    query, key, value = module.attention.in_proj_weight.chunk(3)
    fused = module(spatial, motion, mask)
    for time, place in mask[0].nonzero().tolist():
        asked = query @ motion[0, time, place]
        others = [spatial[0, time, other] for other in range(3) if mask[0, time, other]]
        shares = torch.stack([asked @ (key @ other) / math.sqrt(8) for other in others]).softmax(0)
        answer = sum((share * (value @ other) for share, other in zip(shares, others, strict=True)), torch.zeros(8))
        summed = spatial[0, time, place] + module.attention.out_proj(answer)
        torch.testing.assert_close(fused[0, time, place], torch.nn.functional.layer_norm(summed, (8,)))


def test_concatenation_keeps_pairs_apart() -> None:
    torch.manual_seed(0)
    module, mask = MotionConcatenation(8), torch.ones(1, 1, 3, dtype=torch.bool)
    spatial, motion = torch.randn(1, 1, 3, 8), torch.randn(1, 1, 3, 8)
    fused = module(spatial, motion, mask)
    spatial[0, 0, 2] += 1
    changed = module(spatial, motion, mask)
    assert torch.equal(fused[0, 0, :2], changed[0, 0, :2])
    assert not torch.equal(fused[0, 0, 2], changed[0, 0, 2])

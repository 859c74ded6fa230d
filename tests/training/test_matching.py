"""Hungarian matching on costs small enough to work out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.graph.vocabulary import ACTION_GENOME, GroupName
from training.matching import MatchingCosts, match_pairs
from training.targets import TENSORS, Targets

GROUPS = ACTION_GENOME.group_names
SLICES = ACTION_GENOME.group_slices

PERSON = (0.5, 0.5, 0.4, 0.8)
LEFT, MIDDLE, RIGHT = (0.2, 0.5, 0.1, 0.1), (0.5, 0.5, 0.1, 0.1), (0.8, 0.5, 0.1, 0.1)


def truth(boxes: list[tuple[float, ...]], labels: list[int], *, real: int | None = None) -> Targets:
    """One frame; objects from `real` on are padding."""
    mask = torch.arange(len(boxes)) < (len(boxes) if real is None else real)
    return Targets(
        person_boxes=torch.tensor((PERSON,)),
        object_boxes=torch.tensor((boxes,)),
        object_labels=torch.tensor((labels,)),
        object_mask=mask[None],
        predicates=torch.zeros(1, len(boxes), 26),
    )


def queries(boxes: list[tuple[float, ...]]) -> tuple[Tensor, Tensor, Tensor]:
    """Object probabilities that favour nothing, the person's box, and object boxes."""
    count = len(boxes)
    return torch.full((1, count, 35), 0.1), torch.tensor(PERSON).expand(1, count, 4), torch.tensor((boxes,))


def test_boxes_choose_the_nearest_query() -> None:
    matched = match_pairs(MatchingCosts(), truth([RIGHT, LEFT], [3, 3]), *queries([LEFT, MIDDLE, RIGHT]))
    assert matched.tolist() == [[2, 0]]


def test_the_assignment_is_the_cheapest_over_all_objects() -> None:
    # Only L1 counts. Both objects are nearest to the query at 0.5; taking it for the first would cost the second 0.45.
    costs = MatchingCosts(object=0, predicate=0, box=1, giou=0)
    objects = truth([(0.45, 0.5, 0.1, 0.1), (0.55, 0.5, 0.1, 0.1)], [0, 0])
    matched = match_pairs(costs, objects, *queries([(0.5, 0.5, 0.1, 0.1), (0.1, 0.5, 0.1, 0.1)]))
    assert matched.tolist() == [[1, 0]]


def test_classes_decide_between_equal_boxes() -> None:
    probabilities, people, boxes = queries([MIDDLE, MIDDLE])
    probabilities[0, 0, 7], probabilities[0, 1, 4] = 0.9, 0.9
    matched = match_pairs(MatchingCosts(), truth([MIDDLE, MIDDLE], [4, 7]), probabilities, people, boxes)
    assert matched.tolist() == [[1, 0]]


def test_the_persons_box_counts_in_matching() -> None:
    probabilities, _, boxes = queries([MIDDLE, MIDDLE])
    people = torch.tensor((((0.1, 0.1, 0.1, 0.1), PERSON),))
    assert match_pairs(MatchingCosts(), truth([MIDDLE], [0]), probabilities, people, boxes).tolist() == [[1]]


@pytest.mark.parametrize(("weight", "chosen"), [(0.5, 0), (2.0, 1)])
def test_weights_balance_class_against_box(weight: float, chosen: int) -> None:
    # Query 0 has the right box, query 1 lies 0.3 aside but knows the class: 0.8 more probability against 0.3 x 2.5.
    probabilities, people, boxes = queries([MIDDLE, RIGHT])
    probabilities[0, 1, 7] = 0.9
    costs = MatchingCosts(object=weight, predicate=0, box=2.5, giou=0)
    assert match_pairs(costs, truth([MIDDLE], [7]), probabilities, people, boxes).tolist() == [[chosen]]


def test_padding_takes_no_query() -> None:
    # The padding lies exactly on query 1, the only real object a little beside it.
    objects = truth([(0.55, 0.5, 0.1, 0.1), MIDDLE, LEFT], [0, 0, 0], real=1)
    assert match_pairs(MatchingCosts(), objects, *queries([LEFT, MIDDLE])).tolist() == [[1, 0, 0]]


def test_a_frame_without_objects_matches_nothing() -> None:
    assert match_pairs(MatchingCosts(), truth([LEFT], [0], real=0), *queries([LEFT, RIGHT])).tolist() == [[0]]


def test_frames_are_matched_separately() -> None:
    first, second = truth([LEFT], [0]), truth([RIGHT], [0])
    names = [name for name in TENSORS if getattr(first, name) is not None]
    both = Targets(**{name: torch.cat((getattr(first, name), getattr(second, name))) for name in names})
    doubled = [tensor.expand(2, *tensor.shape[1:]) for tensor in queries([LEFT, RIGHT])]
    assert match_pairs(MatchingCosts(), both, *doubled).tolist() == [[0], [1]]


def test_predicates_decide_between_otherwise_equal_queries() -> None:
    objects = truth([MIDDLE, MIDDLE], [0, 0])
    objects.predicates[0, 0, [1, 5, 14]] = 1
    objects.predicates[0, 1, [0, 4, 20]] = 1
    said = torch.full((1, 2, 26), 0.05)
    said[0, 0, [0, 4, 20]] = 0.9  # query 0 says what holds for object 1
    said[0, 1, [1, 5, 14]] = 0.9
    by_group: dict[GroupName, Tensor] = {group: said[..., SLICES[group]] for group in GROUPS}
    matched = match_pairs(MatchingCosts(), objects, *queries([MIDDLE, MIDDLE]), by_group)
    assert matched.tolist() == [[1, 0]]


def test_predicates_that_do_not_hold_count_as_much_as_those_that_do() -> None:
    # Both queries are sure of what holds; query 0 claims everything else as well.
    objects = truth([MIDDLE], [0])
    objects.predicates[0, 0, [1, 5, 14]] = 1
    said = torch.full((1, 2, 26), 0.05)
    said[0, 0] = 0.9
    said[0, 1, [1, 5, 14]] = 0.9
    by_group: dict[GroupName, Tensor] = {group: said[..., SLICES[group]] for group in GROUPS}
    assert match_pairs(MatchingCosts(), objects, *queries([MIDDLE, MIDDLE]), by_group).tolist() == [[1]]


def test_nan_costs_are_still_matched() -> None:
    probabilities, people, boxes = queries([LEFT, RIGHT])
    nothing = torch.full_like(boxes, torch.nan)
    assert match_pairs(MatchingCosts(), truth([LEFT], [0]), probabilities, people, nothing).shape == (1, 1)

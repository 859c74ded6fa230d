"""The terms of the loss against values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.graph.vocabulary import ACTION_GENOME
from models.networks.arn.network import ArnOutput, EntityOutput
from models.networks.arn.proposals import DenseDetections
from training.losses import LossConfig, arn_loss, dense_terms, focal
from training.targets import Targets

GROUPS = ACTION_GENOME.group_names
SLICES = ACTION_GENOME.group_slices

SURE = 15.0
"""A logit whose sigmoid is 1 for all that matters here."""
LN2 = math.log(2)
PERSON = (0.5, 0.5, 0.4, 0.8)


def truth(*, padding: int = 0) -> Targets:
    """One clip of one frame with two objects and, if asked for, some padding."""
    boxes = torch.tensor(((0.3, 0.4, 0.2, 0.3), (0.7, 0.6, 0.3, 0.2)))
    predicates = torch.zeros(2, 26)
    predicates[0, [0, 4, 14]] = 1
    predicates[1, [1, 5, 6, 20]] = 1

    def padded(values: Tensor) -> Tensor:
        return torch.cat((values, values.new_zeros(padding, *values.shape[1:])))[None, None]

    return Targets(
        person_boxes=torch.tensor(PERSON)[None, None],
        object_boxes=padded(boxes),
        object_labels=padded(torch.tensor((3, 20))),
        object_mask=padded(torch.ones(2, dtype=torch.bool)),
        predicates=padded(predicates),
    )


def perfect(targets: Targets, *, softmax: bool = True, triplets: bool = True, queries: int = 4) -> ArnOutput:
    """What a network would say that knows the truth: query 2 answers for object 0, query 0 for object 1."""
    classes = torch.full((1, 1, queries, 36 if softmax else 35), -SURE)
    if softmax:
        classes[..., 35] = SURE
    boxes = torch.full((1, 1, queries, 4), 0.1)
    rows = 35 if triplets else 1
    predicates = {group: torch.full((1, 1, queries, rows, width), -SURE) for group, width in _widths().items()}
    for thing, query in enumerate((2, 0)):
        label = int(targets.object_labels[0, 0, thing])
        classes[0, 0, query] = -SURE
        classes[0, 0, query, label] = SURE
        boxes[0, 0, query] = targets.object_boxes[0, 0, thing]
        for group in GROUPS:
            holds = targets.predicates[0, 0, thing, SLICES[group]]
            predicates[group][0, 0, query, label if triplets else 0] = (holds * 2 - 1) * SURE
    people = targets.person_boxes[:, :, None].expand(-1, -1, queries, -1)
    return ArnOutput(
        [EntityOutput(classes, people, boxes)],
        [predicates],
        torch.ones(1, 1),
        torch.zeros(1, 1, dtype=torch.int64),
        None,
        None,
        torch.zeros(1, 1, queries, 1),
    )


def _widths() -> dict[str, int]:
    return {"attention": 3, "spatial": 6, "contacting": 17}


def undecided(output: ArnOutput) -> ArnOutput:
    """The same with all predicate logits at 0."""
    logits = output.predicate_layers[0]
    return replace(output, predicate_layers=[{group: torch.zeros_like(logits[group]) for group in GROUPS}])


def test_focal_loss_equals_a_case_by_hand() -> None:
    values = focal(torch.tensor((0.0, math.log(3), math.log(3))), torch.tensor((1.0, 0.0, 1.0)), 0.25, 2.0)
    # p = 1/2, 3/4, 3/4
    wanted = [0.25 * 0.25 * LN2, 0.75 * 0.5625 * math.log(4), 0.25 * 0.0625 * math.log(4 / 3)]
    assert values.tolist() == pytest.approx(wanted)


def test_focal_loss_without_focus_is_half_the_cross_entropy() -> None:
    logits, holds = torch.tensor((-2.0, 0.3, 4.0)), torch.tensor((0.0, 1.0, 1.0))
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, holds, reduction="none") / 2
    torch.testing.assert_close(focal(logits, holds, 0.5, 0.0), wanted)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("triplets", [True, False])
def test_perfect_predictions_have_no_loss(softmax: bool, triplets: bool) -> None:
    targets = truth()
    terms = arn_loss(perfect(targets, softmax=softmax, triplets=triplets), targets, LossConfig())
    assert set(terms) == {"object", "subject_box", "object_box", *GROUPS}
    for name, term in terms.items():
        assert term.item() == pytest.approx(0, abs=1e-4), name


def test_padding_changes_nothing() -> None:
    targets = truth()
    output = undecided(perfect(targets))
    plain, padded = arn_loss(output, targets, LossConfig()), arn_loss(output, truth(padding=3), LossConfig())
    for name, term in plain.items():
        torch.testing.assert_close(term, padded[name], msg=name)


def test_a_box_that_is_off_costs_l1_and_generalised_iou() -> None:
    targets = truth()
    output = perfect(targets)
    layer = output.entity_layers[0]
    boxes = layer.object_boxes.clone()
    boxes[0, 0, 2, 0] += 0.1  # half the width of 0.2 aside: IoU 1/3, and the hull is the union
    terms = arn_loss(replace(output, entity_layers=[replace(layer, object_boxes=boxes)]), targets, LossConfig())
    assert terms["object_box"].item() == pytest.approx((2.5 * 0.1 + 1 * (1 - 1 / 3)) / 2, abs=1e-4)
    assert terms["subject_box"].item() == pytest.approx(0, abs=1e-4)


def test_the_subjects_box_weighs_what_the_configuration_says() -> None:
    targets = truth()
    output = perfect(targets)
    layer = output.entity_layers[0]
    off = replace(output, entity_layers=[replace(layer, subject_boxes=layer.subject_boxes + 0.05)])
    whole = arn_loss(off, targets, LossConfig())["subject_box"]
    half = arn_loss(off, targets, LossConfig(subject_box_share=0.5))["subject_box"]
    assert whole.item() > 0.1
    torch.testing.assert_close(half, whole / 2)


def test_no_object_weighs_a_tenth_in_the_softmax() -> None:
    targets = truth()
    output = perfect(targets)
    classes = output.entity_layers[0].object_logits.clone()
    classes[0, 0, [0, 2]] = 0  # the two matched queries guess among 36; the two others are right
    output = replace(output, entity_layers=[replace(output.entity_layers[0], object_logits=classes)])
    term = arn_loss(output, targets, LossConfig())["object"]
    assert term.item() == pytest.approx(2 * math.log(36) / (2 + 2 * 0.1), rel=1e-4)


def test_sigmoid_classes_are_a_focal_loss_over_all_queries() -> None:
    targets = truth()
    output = perfect(targets, softmax=False)
    classes = torch.zeros_like(output.entity_layers[0].object_logits)
    output = replace(output, entity_layers=[replace(output.entity_layers[0], object_logits=classes)])
    term = arn_loss(output, targets, LossConfig())["object"]
    # 4 x 35 logits of 0, two of which should be 1; by pair, doubled.
    wanted = (2 * 0.25 + 138 * 0.75) * 0.25 * LN2 / 2 * 2
    assert term.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("unmatched", "queries"), [(True, 4), (False, 2)])
def test_unmatched_queries_learn_that_nothing_holds_if_asked_for(unmatched: bool, queries: int) -> None:
    targets = truth()
    output = undecided(perfect(targets, triplets=False))
    terms = arn_loss(output, targets, LossConfig(unmatched_predicates=unmatched))
    for group, width in _widths().items():
        # Each logit of 0 costs 0.5 x 0.25 x ln 2, whatever is true.
        assert terms[group].item() == pytest.approx(2 * queries * width * 0.125 * LN2 / 2, rel=1e-5), group


def test_triplets_of_other_classes_count_as_wrong() -> None:
    targets = truth()
    output = perfect(targets)
    said = output.predicate_layers[0]["attention"].clone()
    said[0, 0, 2, 5, 0] = SURE  # the right predicate, but with an object of another class
    output = replace(output, predicate_layers=[{**output.predicate_layers[0], "attention": said}])
    term = arn_loss(output, targets, LossConfig())["attention"]
    assert term.item() == pytest.approx(2 * 0.5 * SURE / 2, rel=1e-3)


def test_cross_entropy_takes_the_place_of_the_focal_loss() -> None:
    targets = truth()
    output = undecided(perfect(targets, triplets=False))
    terms = arn_loss(output, targets, LossConfig(predicate_loss="cross_entropy", unmatched_predicates=False))
    for group, width in _widths().items():
        assert terms[group].item() == pytest.approx(2 * width * LN2, rel=1e-5), group


@pytest.mark.parametrize("auxiliary", [True, False])
def test_earlier_layers_learn_if_asked_for(auxiliary: bool) -> None:
    targets = truth()
    good = perfect(targets)
    bad = undecided(good)
    output = replace(good, predicate_layers=[*bad.predicate_layers, *good.predicate_layers])
    term = arn_loss(output, targets, LossConfig(auxiliary=auxiliary))["attention"].item()
    alone = arn_loss(bad, targets, LossConfig())["attention"].item()
    assert term == pytest.approx(alone if auxiliary else 0, rel=1e-3, abs=1e-4)


def test_mimicry_equals_a_cosine_by_hand() -> None:
    targets = truth()
    features = torch.full((1, 1, 4, 2), 100.0)  # what unmatched queries say does not matter
    features[0, 0, 2], features[0, 0, 0] = torch.tensor((-6.0, 0.0)), torch.tensor((0.0, -8.0))  # mean (-3, -4)
    output = replace(perfect(targets), image_features=features)
    opposite = arn_loss(output, targets, LossConfig(), torch.tensor((0.3, 0.4))[None, None])["mimicry"]
    assert opposite.item() == pytest.approx(20 * (1.2 + 1.6) / 2, rel=1e-5)
    same = arn_loss(output, targets, LossConfig(), torch.tensor((-30.0, -40.0))[None, None])["mimicry"]
    assert same.item() == pytest.approx(0, abs=1e-5)
    assert "mimicry" not in arn_loss(output, targets, LossConfig()), "nothing to compare with"


def dense(logits: Tensor, objects: Tensor, people: Tensor, rows: int = 4) -> DenseDetections:
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(rows) + 0.5) / rows, indexing="ij")
    return DenseDetections(logits, objects, people, torch.stack((x, y), -1).flatten(0, 1), torch.full((2,), 1 / rows))


def planted() -> tuple[Targets, DenseDetections]:
    """A person on cell 0 and a thing of class 7 on cell 10 of a 4 x 4 grid, found exactly."""
    targets = Targets(
        person_boxes=torch.tensor(((0.125, 0.125, 0.1, 0.1),)),
        object_boxes=torch.tensor((((0.625, 0.625, 0.1, 0.2),),)),
        object_labels=torch.tensor(((7,),)),
        object_mask=torch.ones(1, 1, dtype=torch.bool),
        predicates=torch.zeros(1, 1, 26),
    )
    logits = torch.full((1, 16, 36), -SURE)
    logits[0, 0, 0] = logits[0, 10, 8] = SURE
    objects, people = torch.full((1, 16, 4), 0.5), torch.full((1, 16, 4), 0.5)
    objects[0, 10], people[0, 0] = targets.object_boxes[0, 0], targets.person_boxes[0]
    return targets, dense(logits, objects, people)


def test_dense_detections_in_the_right_cells_lose_nothing() -> None:
    targets, detections = planted()
    for name, term in dense_terms(detections, targets, LossConfig()).items():
        assert term.item() == pytest.approx(0, abs=1e-4), name


def test_a_missed_cell_and_a_false_one_cost_their_focal_loss() -> None:
    targets, detections = planted()
    detections.class_logits[0, 10, 8] = 0.0
    detections.class_logits[0, 3, 20] = 0.0
    term = dense_terms(detections, targets, LossConfig(dense=3.0))["dense_class"]
    assert term.item() == pytest.approx(3 * 2 * (0.25 + 0.75) * 0.25 * LN2 / 2, rel=1e-4)  # two positive cells


def test_a_dense_box_that_is_off_costs_its_own_cell_only() -> None:
    targets, detections = planted()
    detections.object_boxes[0, 10, 0] += 0.05  # half its width: IoU 1/3
    term = dense_terms(detections, targets, LossConfig())["dense_box"]
    assert term.item() == pytest.approx(2.5 * 0.05 + (1 - 1 / 3), abs=1e-3)


def test_a_cell_under_overlapping_boxes_learns_the_smallest() -> None:
    large, small = (0.625, 0.625, 0.6, 0.6), (0.625, 0.625, 0.1, 0.1)
    targets, detections = planted()
    targets = replace(
        targets,
        object_boxes=torch.tensor(((large, small),)),
        object_labels=torch.tensor(((7, 9),)),
        object_mask=torch.ones(1, 2, dtype=torch.bool),
        predicates=torch.zeros(1, 2, 26),
    )
    detections.object_boxes[0, 10] = torch.tensor(small)
    right = dense_terms(detections, targets, LossConfig())["dense_box"]
    assert right.item() == pytest.approx(0, abs=1e-4)
    detections.object_boxes[0, 10] = torch.tensor(large)
    assert dense_terms(detections, targets, LossConfig())["dense_box"].item() > 1

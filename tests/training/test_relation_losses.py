"""Losses of the two-stage family against torch's own and against loops over pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.graph.vocabulary import ACTION_GENOME, GroupName
from models.networks.boxes import to_centres
from models.networks.frequencies import class_weights
from models.networks.relations.pairs import Relations
from training.relation_losses import (
    Matches,
    RelationLossConfig,
    given_matches,
    match_slots,
    related_term,
    relation_terms,
)
from training.targets import Targets

GROUPS = ACTION_GENOME.group_names
SLICES = ACTION_GENOME.group_slices

B, T, P, M = 2, 3, 4, 3
COUNTS = torch.arange(1, 27) * 10


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_targets(seed: int = 0) -> Targets:
    """Objects crowded enough to overlap, some of one class, some missing."""
    random = torch.rand(B, T, M + 1, 4, generator=seeded(seed))
    boxes = torch.cat((random[..., :2] * 0.4 + 0.3, random[..., 2:] * 0.2 + 0.3), -1)
    return Targets(
        person_boxes=boxes[:, :, 0],
        object_boxes=boxes[:, :, 1:],
        object_labels=torch.randint(0, 3, (B, T, M), generator=seeded(seed + 1)),
        object_mask=torch.rand(B, T, M, generator=seeded(seed + 2)) < 0.8,
        predicates=(torch.rand(B, T, M, 26, generator=seeded(seed + 3)) < 0.3).float(),
    )


def corners(box: Tensor) -> list[float]:
    x, y, width, height = box.tolist()
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def iou(first: list[float], second: list[float]) -> float:
    shared = max(min(first[2], second[2]) - max(first[0], second[0]), 0) * max(
        min(first[3], second[3]) - max(first[1], second[1]), 0
    )
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def test_slots_are_matched_as_by_a_plain_loop() -> None:
    targets = some_targets()
    # Slots near annotated objects, under classes that are right or wrong; the person is found in two frames of three.
    place = torch.randint(0, M, (B, T, P), generator=seeded(4))
    near = targets.object_boxes.gather(2, place[..., None].expand(-1, -1, -1, 4))
    near = near + torch.randn(B, T, P, 4, generator=seeded(5)) * 0.03
    boxes = torch.tensor([[[corners(near[b, t, p]) for p in range(P)] for t in range(T)] for b in range(B)])
    people = torch.tensor([[corners(targets.person_boxes[b, t]) for t in range(T)] for b in range(B)])
    people[:, 0] = torch.tensor((0.0, 0.0, 0.1, 0.1))
    labels = torch.randint(1, 4, (B, T, P), generator=seeded(6))
    mask = torch.rand(B, T, P, generator=seeded(7)) < 0.8
    found = match_slots(mask, people[:, :, None].expand(-1, -1, P, -1), boxes, labels, targets)
    matches = related = 0
    for b, t, p in ((b, t, p) for b in range(B) for t in range(T) for p in range(P)):
        person = iou(people[b, t].tolist(), corners(targets.person_boxes[b, t]))
        best, chosen = 0.5, None
        for m in range(M):
            overlap = iou(boxes[b, t, p].tolist(), corners(targets.object_boxes[b, t, m]))
            own = int(labels[b, t, p]) == int(targets.object_labels[b, t, m]) + 1
            if targets.object_mask[b, t, m] and overlap > 0.5 and overlap + 0.1 * own > best:
                best, chosen = overlap + 0.1 * own, m
        wanted = chosen is not None and person > 0.5 and bool(mask[b, t, p])
        assert bool(found.matched[b, t, p]) == wanted
        if wanted:
            assert found.labels[b, t, p] == targets.object_labels[b, t, chosen] + 1
            assert torch.equal(found.predicates[b, t, p], targets.predicates[b, t, chosen])
            assert bool(found.related[b, t, p]) == bool(labels[b, t, p] == found.labels[b, t, p])
        else:
            assert not found.predicates[b, t, p].any()
            assert not found.related[b, t, p]
        matches, related = matches + wanted, related + int(found.related[b, t, p])
    assert 4 <= matches < mask.sum(), "some slots match, some do not"
    assert 0 < related < matches


def test_a_slot_between_two_overlapping_objects_takes_the_one_of_its_class() -> None:
    box = torch.tensor((0.2, 0.2, 0.6, 0.6))
    targets = Targets(
        person_boxes=to_centres(box)[None, None],
        object_boxes=to_centres(box).expand(1, 1, 2, 4),
        object_labels=torch.tensor([[[4, 9]]]),
        object_mask=torch.ones(1, 1, 2, dtype=torch.bool),
        predicates=torch.zeros(1, 1, 2, 26),
    )
    everywhere = box.expand(1, 1, 3, 4)
    matches = match_slots(torch.ones(1, 1, 3, dtype=torch.bool), everywhere, everywhere, torch.tensor([[[10, 5, 7]]]),
                          targets)  # fmt: skip
    assert matches.labels[0, 0, :2].tolist() == [10, 5]
    assert matches.matched.all()
    assert matches.related.tolist() == [[[True, True, False]]], "another class is not the annotated pair"


def test_given_boxes_keep_their_labels_where_objects_overlap() -> None:
    targets = some_targets()
    mask = torch.cat((torch.zeros(B, T, 1, dtype=torch.bool), targets.object_mask), 2)
    matches = given_matches(mask, targets)
    assert torch.equal(matches.matched, mask)
    assert torch.equal(matches.related, mask)
    for m in range(M):
        real = targets.object_mask[:, :, m]
        assert torch.equal(matches.labels[:, :, 1 + m], targets.object_labels[:, :, m] + 1)
        assert torch.equal(matches.predicates[:, :, 1 + m][real], targets.predicates[:, :, m][real])
        assert not matches.predicates[:, :, 1 + m][~real].any()


def some_relations(seed: int = 0) -> Relations:
    widths = {group: SLICES[group].stop - SLICES[group].start for group in GROUPS}
    logits = {group: torch.randn(B, T, P, width, generator=seeded(seed)) * 2 for group, width in widths.items()}
    probabilities: dict[GroupName, Tensor] = {
        group: each.softmax(-1) if group == "attention" else each.sigmoid() for group, each in logits.items()
    }
    return Relations(probabilities, torch.zeros(B, T, P, 1), torch.zeros(B, T, P, 1))


def some_matches() -> Matches:
    """Matched slots hold one attention predicate, and of the others some or none."""
    matched = torch.rand(B, T, P, generator=seeded(8)) < 0.6
    predicates = (torch.rand(B, T, P, 26, generator=seeded(9)) < 0.2).float()
    predicates[..., :3] = F.one_hot(torch.randint(0, 3, (B, T, P), generator=seeded(10)), 3)
    return Matches(matched, matched, torch.zeros(B, T, P, dtype=torch.int64), predicates * matched[..., None])


def test_cross_entropies_are_summed_over_predicates_and_averaged_over_matched_pairs() -> None:
    relations, matches = some_relations(), some_matches()
    terms = relation_terms(relations, matches, COUNTS, RelationLossConfig(form="bce"))
    truth = matches.predicates[matches.matched]
    attention = F.nll_loss(relations.probabilities["attention"][matches.matched].log(), truth[:, :3].argmax(-1))
    assert terms["attention"].item() == pytest.approx(attention.item(), rel=1e-5)
    for group in ("spatial", "contacting"):
        said, wanted = relations.probabilities[group][matches.matched], truth[:, SLICES[group]]
        expected = F.binary_cross_entropy(said, wanted, reduction="sum") / len(said)
        assert terms[group].item() == pytest.approx(expected.item(), rel=1e-5)


def test_cross_entropies_are_averaged_over_the_predicates_of_a_group_where_asked() -> None:
    relations, matches = some_relations(), some_matches()
    summed = relation_terms(relations, matches, COUNTS, RelationLossConfig(form="bce"))
    averaged = relation_terms(relations, matches, COUNTS, RelationLossConfig(form="bce", average_predicates=True))
    assert averaged["attention"] == summed["attention"]
    torch.testing.assert_close(averaged["spatial"] * 6, summed["spatial"])
    torch.testing.assert_close(averaged["contacting"] * 17, summed["contacting"])


def test_the_margin_is_torchs_multi_label_margin() -> None:
    relations, matches = some_relations(), some_matches()
    terms = relation_terms(relations, matches, COUNTS, RelationLossConfig(form="margin"))
    for group in ("spatial", "contacting"):
        said, truth = relations.probabilities[group][matches.matched], matches.predicates[matches.matched]
        indices = torch.full(said.shape, -1)
        for row, wanted in enumerate(truth[:, SLICES[group]]):
            held = wanted.nonzero().flatten()
            indices[row, : len(held)] = held
        assert terms[group].item() == pytest.approx(F.multilabel_margin_loss(said, indices).item(), rel=1e-5)


def test_the_focal_form_equals_a_loop() -> None:
    relations, matches = some_relations(), some_matches()
    terms = relation_terms(relations, matches, COUNTS, RelationLossConfig(form="focal"))
    for group in ("spatial", "contacting"):
        logs = [math.log(count) for count in COUNTS[SLICES[group]].tolist()]
        alphas = [sum(logs) / log for log in logs]
        alphas = [alpha * len(alphas) / sum(alphas) for alpha in alphas]
        losses = []
        for said, truth in zip(
            relations.probabilities[group][matches.matched].tolist(),
            matches.predicates[matches.matched][:, SLICES[group]].tolist(),
            strict=True,
        ):
            entropy = -sum(math.log(p if holds else 1 - p) for p, holds in zip(said, truth, strict=True))
            own = [alpha for alpha, holds in zip(alphas, truth, strict=True) if holds]
            losses.append(entropy * (sum(own) / len(own) if own else 0) * (1 - math.exp(-entropy)) ** 2)
        assert terms[group].item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_class_balance_weighs_each_predicate() -> None:
    relations, matches = some_relations(), some_matches()
    terms = relation_terms(relations, matches, COUNTS, RelationLossConfig(class_balance=0.5))
    weights, truth = class_weights(COUNTS, 0.5), matches.predicates[matches.matched]
    for group in GROUPS:
        said, wanted = relations.probabilities[group][matches.matched], truth[:, SLICES[group]]
        own = weights[SLICES[group]]
        each = -wanted * said.log() if group == "attention" else F.binary_cross_entropy(said, wanted, reduction="none")
        assert terms[group].item() == pytest.approx(((each * own).sum() / len(said)).item(), rel=1e-5)


@pytest.mark.parametrize("form", ["bce", "margin", "focal"])
def test_predictions_of_unmatched_slots_have_no_loss(form: str) -> None:
    config, matches = RelationLossConfig(form=form), some_matches()  # type: ignore[arg-type]
    relations, other = some_relations(0), some_relations(1)
    mixed = {
        group: torch.where(matches.matched[..., None], values, other.probabilities[group])
        for group, values in relations.probabilities.items()
    }
    before = relation_terms(relations, matches, COUNTS, config)
    after = relation_terms(Relations(mixed, relations.representation, relations.decoded), matches, COUNTS, config)
    assert all(torch.equal(before[group], after[group]) for group in GROUPS)


@pytest.mark.parametrize("form", ["bce", "margin", "focal"])
def test_unmatched_batches_have_no_loss_and_certain_ones_a_finite_one(form: str) -> None:
    config, matches = RelationLossConfig(form=form), some_matches()  # type: ignore[arg-type]
    empty = Matches(*(torch.zeros_like(each) for each in (matches.matched, matches.related, matches.labels,
                                                            matches.predicates)))  # fmt: skip
    assert all(term == 0 for term in relation_terms(some_relations(), empty, COUNTS, config).values())
    wrong = {group: 1 - matches.predicates[..., SLICES[group]] for group in GROUPS}
    certain = Relations(wrong, torch.zeros(B, T, P, 1), torch.zeros(B, T, P, 1))
    assert all(term.isfinite() for term in relation_terms(certain, matches, COUNTS, config).values())


def related_loop(logits: Tensor, related: Tensor, mask: Tensor, negatives: float) -> float:
    positives = sum(1 for is_related, real in zip(related.flatten(), mask.flatten(), strict=True) if is_related & real)
    others = int(mask.sum()) - positives
    share = min(1.0, negatives * positives / max(others, 1))
    total = weight = 0.0
    for (no, yes), is_related, real in zip(
        logits.flatten(0, 2).tolist(), related.flatten().tolist(), mask.flatten().tolist(), strict=True
    ):
        if real:
            own = 1.0 if is_related else share
            total += own * (math.log(math.exp(no) + math.exp(yes)) - (yes if is_related else no))
            weight += own
    return total / max(weight, 1)


@pytest.mark.parametrize(("share", "negatives"), [(0.1, 3.0), (0.1, 1.0), (0.7, 3.0)])
def test_the_weight_of_unrelated_pairs_is_capped(share: float, negatives: float) -> None:
    logits = torch.randn(B, 8, P, 2, generator=seeded(1))
    related = torch.rand(B, 8, P, generator=seeded(2)) < share
    mask = torch.rand(B, 8, P, generator=seeded(3)) < 0.9
    assert (related & ~mask).any() or share < 0.5, "a slot without a pair is neither"
    config = RelationLossConfig(related=2.0, negatives=negatives)
    wanted = 2.0 * related_loop(logits, related, mask, negatives)
    assert related_term(logits, related, mask, config).item() == pytest.approx(wanted, rel=1e-5)


def test_batches_without_related_pairs_have_no_loss() -> None:
    logits = torch.randn(B, T, P, 2, generator=seeded(1))
    nothing, everything = torch.zeros(B, T, P, dtype=torch.bool), torch.ones(B, T, P, dtype=torch.bool)
    config = RelationLossConfig()
    assert related_term(logits, nothing, everything, config) == 0
    assert related_term(logits, nothing, nothing, config) == 0
    assert related_term(logits, everything, everything, config).item() == pytest.approx(
        F.cross_entropy(logits.flatten(0, 2), torch.ones(B * T * P, dtype=torch.int64)).item(), rel=1e-5
    )

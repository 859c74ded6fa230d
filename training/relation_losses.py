"""Losses of the two-stage family: predicates of matched pairs, and whether a pair is related at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor
from torch.nn import functional as F

from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from models.networks.boxes import paired_generalised_iou, to_corners
from models.networks.frequencies import class_weights
from models.networks.processes import mean_over_processes
from models.networks.relations.pairs import Relations
from training.matching import Weight
from training.targets import Targets

MATCHED_IOU = 0.5
_LEAST = 1e-6
"""Distance that probabilities keep from 0 and 1 before their logarithm is taken."""


@pydantic_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RelationLossConfig:
    """Form and weights of the loss of a relation network.

    form: loss of groups that are not exclusive: STTran's margin, cross-entropy, or TR²'s focal form. Exclusive groups,
        as attention is, take cross-entropy.
    average_predicates: averages `bce` over a group's predicates, as STTran's and FReMuRe's code does, instead of
        summing it. A sum gives a group of 17 predicates 17 times the weight beside the others.
    class_balance: beta of MoSA's class weights (eq 11); 0 weighs all predicates alike.
    predicates: weight of a layout network's cross-entropy.
    related: weight of the relation scorer's cross-entropy.
    negatives: most weight that unrelated pairs have together, in multiples of the related ones'.
    object: weight of the object classifier's cross-entropy (SGCls).
    """

    form: Literal["margin", "bce", "focal"] = "bce"
    average_predicates: bool = False
    class_balance: Weight = 0.0
    predicates: Weight = 3.0
    related: Weight = 1.0
    negatives: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.0
    object: Weight = 1.0


@dataclass(frozen=True)
class Matches:
    """The annotated object that each slot overlaps.

    matched: (B, T, P) bool, false where it overlaps none.
    related: (B, T, P) bool, true where the slot has that object's class too: it is the annotated pair.
    labels: (B, T, P) int64, indices into the vocabulary's objects.
    predicates: (B, T, P, R) float32, zero where a slot overlaps none.
    """

    matched: Tensor
    related: Tensor
    labels: Tensor
    predicates: Tensor


@torch.no_grad()
def match_slots(mask: Tensor, subject_boxes: Tensor, object_boxes: Tensor, labels: Tensor, targets: Targets) -> Matches:
    """Matches each slot to the annotated object that it overlaps most.

    The boxes of the slot must overlap those of the object and of the person by an IoU over 0.5.

    mask: (B, T, P) bool.
    subject_boxes, object_boxes: (B, T, P, 4), corner boxes.
    labels: (B, T, P) int64, indices into the vocabulary's objects.

    Several slots may match one object. Of two objects in one place, a slot matches the one of its class.
    """
    annotated = to_corners(targets.object_boxes)  # (B, T, M, 4)
    overlap, _ = paired_generalised_iou(object_boxes[..., :, None, :], annotated[..., None, :, :])  # (B, T, P, M)
    person, _ = paired_generalised_iou(subject_boxes, to_corners(targets.person_boxes)[..., None, :])  # (B, T, P)
    overlap = torch.where(targets.object_mask[..., None, :], overlap, 0.0)
    objects = targets.objects()
    same_class = labels[..., :, None] == objects[..., None, :]
    chosen = (overlap + 0.1 * same_class * (overlap > MATCHED_IOU)).argmax(-1)  # (B, T, P)
    best = overlap.gather(-1, chosen[..., None])[..., 0]
    matched = mask & (best > MATCHED_IOU) & (person > MATCHED_IOU)
    predicates = targets.predicates.gather(2, chosen[..., None].expand(-1, -1, -1, targets.predicates.shape[-1]))
    annotated_labels = objects.gather(2, chosen)
    related = matched & (labels == annotated_labels)
    return Matches(matched, related, annotated_labels, predicates * matched[..., None])


def given_matches(mask: Tensor, targets: Targets) -> Matches:
    """Matches slots of given boxes (PredCls, SGCls): the person's own, which is empty, then the objects one by one.

    Slots behind them hold objects that nobody annotated: they match nothing.

    mask: (B, T, 1 + M + unmatched slots) bool.

    Other overlaps of a slot do not matter: two objects may lie in one place.
    """

    unmatched = mask.shape[2] - 1 - targets.object_mask.shape[2]

    def by_slot(values: Tensor) -> Tensor:
        behind = torch.zeros_like(values[:, :, :1]).expand(-1, -1, unmatched, *values.shape[3:])
        return torch.cat((torch.zeros_like(values[:, :, :1]), values, behind), 2)

    given = mask & by_slot(targets.object_mask)
    return Matches(given, given, by_slot(targets.objects()), by_slot(targets.predicates) * given[..., None])


def relation_terms(
    relations: Relations,
    matches: Matches,
    counts: Tensor,
    config: RelationLossConfig,
    vocabulary: Vocabulary = ACTION_GENOME,
) -> dict[str, Tensor]:
    """Returns the loss of each predicate group, the mean over matched slots.

    counts: (R,), number of training labels of each predicate.
    """
    pairs = mean_over_processes(matches.matched.sum()).clamp(min=1)
    weights = class_weights(counts, config.class_balance, vocabulary)
    terms: dict[str, Tensor] = {}
    for group in vocabulary.groups:
        columns = vocabulary.group_slices[group.name]
        probabilities = relations.probabilities[group.name].float().clamp(_LEAST, 1 - _LEAST)
        truth, weight = matches.predicates[..., columns], weights[columns]
        if group.exclusive:
            by_pair = -(truth * probabilities.log() * weight).sum(-1)
        elif config.form == "margin":
            by_pair = _margin(probabilities, truth)
        else:
            cross_entropy = F.binary_cross_entropy(probabilities, truth, reduction="none") * weight
            averaged = config.average_predicates and config.form == "bce"
            by_pair = cross_entropy.mean(-1) if averaged else cross_entropy.sum(-1)
            if config.form == "focal":
                by_pair = by_pair * _focus(by_pair, truth, counts[columns])
        terms[group.name] = (by_pair * matches.matched).sum() / pairs
    return terms


def related_term(logits: Tensor, related: Tensor, mask: Tensor, config: RelationLossConfig) -> Tensor:
    """Computes the cross-entropy of related against unrelated pairs.

    logits: (B, T, P, 2).
    related, mask: (B, T, P) bool.

    Where unrelated pairs are more than `negatives` times the related ones, they weigh less.
    """
    positives, negatives = related & mask, ~related & mask
    related_pairs, unrelated_pairs = (mean_over_processes(each.sum()) for each in (positives, negatives))
    share = (config.negatives * related_pairs / unrelated_pairs.clamp(min=1)).clamp(max=1.0)
    weights = positives.float() + negatives.float() * share
    loss = F.cross_entropy(logits.float().flatten(0, 2), related.long().flatten(), reduction="none")
    return config.related * (loss * weights.flatten()).sum() / mean_over_processes(weights.sum()).clamp(min=1)


def _margin(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Computes STTran's multi-label margin: true predicates should beat false ones by 1; (..., C) x 2 -> (...,)."""
    distance = 1 - probabilities[..., :, None] + probabilities[..., None, :]  # true over false
    counted = truth[..., :, None] * (1 - truth[..., None, :])
    return (distance.clamp(min=0) * counted).sum((-2, -1)) / truth.shape[-1]


def _focus(loss: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Returns TR²'s factor on a pair's summed cross-entropy.

    It falls as the pair is learnt, and is larger for rare labels. The published code shifts the labels' weights by one;
    here each label has its own.
    """
    share = counts.float().clamp(min=2).log()
    alpha = share.sum() / share
    alpha = alpha / alpha.mean()
    of_pair = (truth * alpha).sum(-1) / truth.sum(-1).clamp(min=1)
    return of_pair * (1 - (-loss).exp()) ** 2

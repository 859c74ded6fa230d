"""ARN's losses (eq 7 and 14), and that of the dense head that starts a compact network's queries."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from models.networks.arn.network import ArnOutput, EntityOutput
from models.networks.arn.proposals import DenseDetections
from models.networks.boxes import paired_generalised_iou, to_corners
from models.networks.processes import mean_over_processes
from training.matching import MatchingCosts, Weight, match_pairs
from training.targets import Targets


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LossConfig:
    """Weights and switches of the loss; the defaults are the paper's, with OED's where it is silent.

    subject_box_share: weight of the person's box against the object's.
    mimicry: weight of L1 to the CLIP image embedding (eq 14); used where the network projects to it and the data has
        it.
    no_object: weight of the no-object class in the softmax.
    predicate_loss: row 1 of Table 3 is `cross_entropy`.
    unmatched_predicates: true where queries without a pair learn that no predicate holds: eq 7 sums over all N_q.
    auxiliary: true where earlier layers learn too (DETR).
    """

    object: Weight = 1.0
    box: Weight = 2.5
    giou: Weight = 1.0
    subject_box_share: Weight = 1.0
    predicate: Weight = 2.0
    mimicry: Weight = 20.0
    no_object: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    predicate_loss: Literal["focal", "cross_entropy"] = "focal"
    focal_alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    focal_gamma: Weight = 2.0
    unmatched_predicates: bool = True
    auxiliary: bool = True
    dense: Weight = 1.0
    matching: MatchingCosts = field(default_factory=MatchingCosts)


def arn_loss(
    output: ArnOutput, targets: Targets, config: LossConfig, image_embeddings: Tensor | None = None
) -> dict[str, Tensor]:
    """Returns weighted terms by name; their sum is the loss.

    image_embeddings: (B, T, E), CLIP's embeddings of the frames.
    """
    frames = targets.by_frame()
    pairs = mean_over_processes(frames.object_mask.sum()).clamp(min=1)
    terms: dict[str, Tensor] = {}
    last = len(output.entity_layers) - 1
    vocabulary, things = targets.vocabulary, len(targets.vocabulary.things)
    predicates = [{group: logits.flatten(0, 1) for group, logits in layer.items()} for layer in output.predicate_layers]
    final_probabilities = {group: logits.sigmoid().amax(-2) for group, logits in predicates[-1].items()}
    matched = torch.zeros_like(frames.object_labels)
    for index, layer in enumerate(output.entity_layers):
        if index < last and not config.auxiliary:
            continue
        layer = EntityOutput(
            layer.object_logits.flatten(0, 1), layer.subject_boxes.flatten(0, 1), layer.object_boxes.flatten(0, 1)
        )
        softmax = layer.object_logits.shape[-1] == things + 1
        probabilities = layer.object_logits.softmax(-1)[..., :-1] if softmax else layer.object_logits.sigmoid()
        matched = match_pairs(
            config.matching, frames, probabilities, layer.subject_boxes, layer.object_boxes,
            final_probabilities if index == last else None,
        )  # fmt: skip
        for name, term in _entity_terms(layer, frames, matched, pairs, config, softmax=softmax).items():
            terms[name] = terms.get(name, term.new_zeros(())) + term
    truths = frames.triplets()
    for index, logits in enumerate(predicates):
        if index < len(predicates) - 1 and not config.auxiliary:
            continue
        for group, columns in vocabulary.group_slices.items():
            truth = truths[group] if logits[group].shape[-2] == things else frames.predicates[..., None, columns]
            term = config.predicate * _predicate_term(logits[group], truth, frames, matched, pairs, config)
            terms[group] = terms.get(group, term.new_zeros(())) + term
    if output.dense is not None:
        terms.update(dense_terms(output.dense, frames, config))
    if output.image_features is not None and image_embeddings is not None:
        terms["mimicry"] = config.mimicry * _mimicry_term(
            output.image_features.flatten(0, 1), image_embeddings, frames, matched
        )
    return terms


def focal(logits: Tensor, truth: Tensor, alpha: float, gamma: float) -> Tensor:
    """Returns the sigmoid focal loss (Lin et al., 2017) of each element, in float32."""
    loss: Tensor = sigmoid_focal_loss(logits.float(), truth.float(), alpha, gamma)
    return loss


def _pick(queries: Tensor, matched: Tensor) -> Tensor:
    """Returns the values of the matched queries: (N, Q, …), (N, M) -> (N, M, …)."""
    shape = matched.shape + queries.shape[2:]
    return queries.gather(1, matched.reshape(*matched.shape, *[1] * (queries.dim() - 2)).expand(shape))


def _entity_terms(
    layer: EntityOutput, targets: Targets, matched: Tensor, pairs: Tensor, config: LossConfig, *, softmax: bool
) -> dict[str, Tensor]:
    mask = targets.object_mask
    queries = layer.object_logits.shape[1]
    # Scatter the labels of matched queries; the rest is no-object (softmax) or all zero (sigmoid).
    hits = F.one_hot(matched, queries).to(torch.float32) * mask[..., None]  # (N, M, Q)
    labels = F.one_hot(targets.object_labels, len(targets.vocabulary.things)).to(torch.float32)
    truth = hits.transpose(1, 2) @ labels  # (N, Q, H)
    if softmax:
        nothing = 1 - truth.sum(-1, keepdim=True)
        weights = torch.cat((truth, nothing * config.no_object), -1)
        classes = -(weights * layer.object_logits.float().log_softmax(-1)).sum() / mean_over_processes(weights.sum())
    else:
        classes = focal(layer.object_logits, truth, 0.25, config.focal_gamma).sum() / pairs * 2
    terms = {"object": config.object * classes}
    person = targets.person_boxes[:, None].expand_as(targets.object_boxes)
    for name, boxes, truth_boxes, share in (
        ("subject_box", layer.subject_boxes, person, config.subject_box_share),
        ("object_box", layer.object_boxes, targets.object_boxes, 1.0),
    ):
        terms[name] = share * _box_term(_pick(boxes, matched), truth_boxes, mask, config)
    return terms


def _box_term(predicted: Tensor, truth: Tensor, mask: Tensor, config: LossConfig) -> Tensor:
    """Computes the box loss, L1 and generalised IoU: the mean over what the mask keeps."""
    predicted, truth = predicted.float(), truth.float()
    distance = (predicted - truth).abs().sum(-1)
    _, giou = paired_generalised_iou(to_corners(predicted), to_corners(truth))
    count = mean_over_processes(mask.sum()).clamp(min=1)
    return ((config.box * distance + config.giou * (1 - giou)) * mask).sum() / count


def _predicate_term(
    logits: Tensor, truth: Tensor, targets: Targets, matched: Tensor, pairs: Tensor, config: LossConfig
) -> Tensor:
    """Computes eq 7: logits (N, Q, H or 1, p) of the matched queries against (N, M, H or 1, p), by pair."""

    def by_element(values: Tensor, wanted: Tensor) -> Tensor:
        if config.predicate_loss == "focal":
            return focal(values, wanted, config.focal_alpha, config.focal_gamma)
        return F.binary_cross_entropy_with_logits(values.float(), wanted.float(), reduction="none")

    loss = (by_element(_pick(logits, matched), truth) * targets.object_mask[..., None, None]).sum()
    if config.unmatched_predicates:
        hits = F.one_hot(matched, logits.shape[1]) * targets.object_mask[..., None]  # (N, M, Q)
        free = (1 - hits.amax(1)).to(torch.float32)  # (N, Q)
        loss = loss + (by_element(logits, torch.zeros_like(logits)) * free[..., None, None]).sum()
    return loss / pairs


def _mimicry_term(features: Tensor, images: Tensor, targets: Targets, matched: Tensor) -> Tensor:
    """Computes L1 between the mean of a frame's matched queries and its CLIP embedding, both of unit length."""
    mask = targets.object_mask[..., None]
    mean = (_pick(features, matched) * mask).sum(1) / mask.sum(1).clamp(min=1)
    wanted = F.normalize(images.flatten(0, 1).float(), dim=-1)
    return F.l1_loss(F.normalize(mean.float(), dim=-1), wanted)


def dense_terms(dense: DenseDetections, targets: Targets, config: LossConfig) -> dict[str, Tensor]:
    """Computes focal loss on all cells, and box loss on the cells around an object's centre (FCOS, centre sampling)."""
    things, persons = targets.object_boxes, targets.person_boxes[:, None]
    boxes = torch.cat((persons, things), 1)  # (N, 1 + M, 4)
    labels = torch.cat((targets.subjects()[:, None], targets.objects()), 1)
    mask = torch.cat((torch.ones_like(targets.object_mask[:, :1]), targets.object_mask), 1)
    cells = dense.cells
    # A cell belongs to an object when it lies in the middle part of its box, or is the nearest of all to its centre.
    offset = (cells[None, :, None] - boxes[:, None, :, :2]).abs()  # (N, S, 1 + M, 2)
    reach = torch.maximum(boxes[:, None, :, 2:] * 0.25, dense.cell_size * 0.6)
    inside = (offset <= reach).all(-1) & mask[:, None]
    truth = torch.zeros_like(dense.class_logits)
    truth.scatter_reduce_(
        2, labels[:, None].expand(inside.shape), inside.to(truth.dtype), reduce="amax", include_self=True
    )
    positives = mean_over_processes(inside.sum()).clamp(min=1)
    terms = {
        "dense_class": config.dense * 2 * focal(dense.class_logits, truth, 0.25, config.focal_gamma).sum() / positives
    }
    # Where objects overlap, a cell answers for the smallest.
    size = boxes[:, None, :, 2:].prod(-1) + torch.where(inside, 0.0, 10.0)
    smallest = size[..., 1:].min(-1).indices  # (N, S)
    owned = inside[..., 1:].any(-1)
    terms["dense_box"] = config.dense * (
        _box_term(dense.object_boxes, _pick(things, smallest), owned, config)
        + _box_term(dense.subject_boxes, persons.expand_as(dense.subject_boxes), inside[..., 0], config)
    )
    return terms

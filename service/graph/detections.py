"""The subjects and things that every frame shows, and the pairs of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.graph.bundle import Statements, Thresholds
from models.graph.duplicates import (
    SAME_SUBJECT_IOU,
    box_containment,
    box_iou,
    find_leaders,
    pair_scores,
    slot_ranks,
    suppress_duplicates,
)
from models.graph.predictions import Array, PairPredictions
from models.graph.vocabulary import Vocabulary
from service.graph.subjects import classes_or_default, find_lone_subjects, shows_subject, subject_leaders

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

# What is narrower than this after clipping lies outside the picture.
SMALLEST_SIDE = 1.0  # px


@dataclass(frozen=True)
class Detections:
    """N subjects and things, in order of frame. Within a frame subjects of pairs come first, then lone subjects, then
    things, each best first.

    frames: (N,) int32, index of the sampled frame.
    is_subject: (N,) bool.
    boxes: (N, 4) float64, xyxy in pixels, inside the picture and at least a pixel wide and high.
    scores: (N,) float32.
    class_scores: (N, C) float32, per object of the vocabulary.
    """

    frames: NDArray[np.int32]
    is_subject: NDArray[np.bool_]
    boxes: Floats
    scores: Array
    class_scores: Array

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Pairs:
    """M pairs of a subject and a thing of the same frame, each pair once.

    subjects: (M,) intp, rows of the `Detections`.
    things: (M,) intp, rows of the `Detections`.
    scores: (M,) float64, subject score x thing score.
    predicates: (M, R) float32, per predicate of the vocabulary.
    relation_scores: (M,) float32, or None where the model has no relation scorer.
    uncertainties: (M, R, 2) float32, epistemic and aleatoric per predicate, or None where unknown.
    """

    subjects: Integers
    things: Integers
    scores: Floats
    predicates: Array
    relation_scores: Array | None
    uncertainties: Array | None

    def __len__(self) -> int:
        return len(self.subjects)


def find_pairs(
    predictions: PairPredictions,
    vocabulary: Vocabulary,
    *,
    width: int,
    height: int,
    thresholds: Thresholds,
    statements: Statements,
) -> tuple[Detections, Pairs]:
    """Reads subjects and things, and the pairs of them, out of the predictions of a clip; its frames count from 0.

    Slots under `thresholds.object_score`, slots outside the picture or not finite, and duplicates are dropped. Subject
    boxes of one class that overlap become one subject with their score-weighted mean box. Object boxes of one class
    that overlap by more than `thresholds.duplicate_iou`, or lie within each other by more than
    `statements.contained_share`, become one thing with the best of these boxes, whoever relates to it. Of two classes
    on the same box, by `statements.rival_iou`, only the better one is kept; a thing on the box of a surer subject, by
    `statements.rival_subject_iou`, is that subject. A pair is described by its best slot.

    A subject that no pair has is found too, where the model tells of such and its score is at least
    `thresholds.lone_subject_score`. A box that shows the subject of a pair, or a part of it, is none.
    """
    visible = _visible(predictions, vocabulary, width, height, thresholds)
    if statements.rival_subject_iou < 1:
        visible = replace(visible, pair_mask=visible.pair_mask & ~shows_subject(visible, statements.rival_subject_iou))
    predictions = suppress_duplicates(visible, thresholds.duplicate_iou)
    scale = np.array([width, height, width, height], dtype=np.float64)
    detected, object_scores = pair_scores(predictions), predictions.object_scores.max(axis=-1)

    leaders = subject_leaders(predictions, statements)
    subject_frames, subject_slots, subject_rows = _rows(leaders, detected)
    subject_scores = _best(subject_rows, predictions.subject_scores, len(subject_frames))
    leading_boxes = np.take_along_axis(predictions.subject_boxes, np.maximum(leaders, 0)[..., None], axis=1)
    whole = box_iou(predictions.subject_boxes, leading_boxes) > SAME_SUBJECT_IOU  # a part must not shrink the mean
    subject_boxes = _mean_boxes(
        np.where(whole, subject_rows, -1), predictions.subject_boxes, detected, len(subject_frames)
    )
    thing_frames, slots, thing_rows = _rows(
        _thing_leaders(predictions, thresholds.duplicate_iou, statements), object_scores
    )
    thing_scores = _best(thing_rows, object_scores, len(thing_frames))
    lone = find_lone_subjects(visible, vocabulary, statements)

    kinds = classes_or_default(predictions.subject_classes, leaders.shape, vocabulary)[subject_frames, subject_slots]
    count = len(subject_frames) + len(lone)
    frames = np.concatenate([subject_frames, lone.frames, thing_frames])
    is_subject = np.arange(len(frames)) < count
    scores = np.concatenate([subject_scores, lone.scores, thing_scores])
    class_scores = np.zeros((len(frames), len(vocabulary.objects)), dtype=np.float32)
    class_scores[np.arange(count), np.concatenate([kinds, lone.classes])] = scores[:count]
    class_scores[count:] = predictions.object_scores[thing_frames, slots]
    boxes = np.concatenate([subject_boxes, lone.boxes, predictions.object_boxes[thing_frames, slots]])
    order = np.lexsort((~is_subject, frames))
    detections = Detections(
        frames=frames[order].astype(np.int32),
        is_subject=is_subject[order],
        boxes=boxes[order] * scale,
        scores=scores[order],
        class_scores=class_scores[order],
    )
    row = np.argsort(order)
    pairs = _pairs(predictions, subject_rows, thing_rows, subject_scores, thing_scores)
    return detections, replace(pairs, subjects=row[pairs.subjects], things=row[count + pairs.things])


def _visible(
    predictions: PairPredictions, vocabulary: Vocabulary, width: int, height: int, thresholds: Thresholds
) -> PairPredictions:
    """Clips scores and boxes to their ranges. Masks pairs, and gives subjects the score 0, that are unsure, not finite,
    outside the picture, or whose subject is of a class that may be none.
    """
    clipped = replace(
        predictions,
        subject_boxes=_clip(predictions.subject_boxes),
        object_boxes=_clip(predictions.object_boxes),
        subject_scores=_clip(predictions.subject_scores),
        object_scores=_clip(predictions.object_scores),
        predicate_scores=_clip(predictions.predicate_scores),
        relation_scores=None if predictions.relation_scores is None else _clip(predictions.relation_scores),
    )
    # NaN survives clipping and fails every comparison, so that a slot that is not finite is masked here, too.
    mask = clipped.pair_mask & (pair_scores(clipped) >= thresholds.object_score)
    for boxes in (clipped.subject_boxes, clipped.object_boxes):
        mask &= _spans_a_pixel(boxes, width, height)
    if predictions.subject_classes is not None:
        mask &= np.isin(predictions.subject_classes, vocabulary.subject_indices)
    clipped = replace(clipped, pair_mask=mask)
    if predictions.person_boxes is None or predictions.person_scores is None:
        return clipped
    boxes, scores = _clip(predictions.person_boxes), _clip(predictions.person_scores)
    seen = (scores >= thresholds.lone_subject_score) & _spans_a_pixel(boxes, width, height)
    seen &= np.isfinite(predictions.person_boxes).all(axis=-1)
    if predictions.person_classes is not None:
        seen &= np.isin(predictions.person_classes, vocabulary.subject_indices)
    return replace(clipped, person_boxes=boxes, person_scores=np.where(seen, scores, np.float32(0)))


def _clip(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(values, 0, 1).astype(np.float32)


def _spans_a_pixel(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.bool_]:
    wide = (boxes[..., 2] - boxes[..., 0]) * width >= SMALLEST_SIDE
    high: NDArray[np.bool_] = (boxes[..., 3] - boxes[..., 1]) * height >= SMALLEST_SIDE
    return wide & high


def _thing_leaders(predictions: PairPredictions, iou: float, statements: Statements) -> Integers:
    """As `find_leaders`; -1 also for the slots of a thing that lost its box to a better class."""
    boxes, scores = predictions.object_boxes, predictions.object_scores.max(axis=-1)
    classes = predictions.object_scores.argmax(axis=-1)

    def overlap(rows: Integers, leaders: Integers) -> NDArray[np.floating]:
        return box_iou(boxes[rows], boxes[rows, leaders, None])

    def same(rows: Integers, leaders: Integers) -> NDArray[np.bool_]:
        one_thing: NDArray[np.bool_] = overlap(rows, leaders) > iou
        if statements.contained_share < 1:
            one_thing |= box_containment(boxes[rows], boxes[rows, leaders, None]) > statements.contained_share
        one_thing &= classes[rows] == classes[rows, leaders, None]
        return one_thing

    leaders = find_leaders(predictions.pair_mask, scores, same)
    slots = np.arange(leaders.shape[1])
    winners = find_leaders(leaders == slots, scores, lambda rows, slots: overlap(rows, slots) > statements.rival_iou)
    lost = (winners >= 0) & (winners != slots)
    return np.where((leaders >= 0) & ~np.take_along_axis(lost, leaders, axis=1), leaders, -1)


def _rows(leaders: Integers, ranking: NDArray[np.float32]) -> tuple[Integers, Integers, Integers]:
    """Numbers the groups by frame, best first: frame and leading slot of each, and (T, P) the row of every member."""
    frames, slots = np.nonzero(leaders == np.arange(leaders.shape[1]))
    order = np.lexsort((-ranking[frames, slots], frames))
    frames, slots = frames[order], slots[order]
    row_of_leader = np.full(leaders.shape, -1, dtype=np.intp)
    row_of_leader[frames, slots] = np.arange(len(frames))
    rows = np.where(leaders >= 0, np.take_along_axis(row_of_leader, np.maximum(leaders, 0), axis=1), -1)
    return frames, slots, rows


def _best(rows: Integers, scores: Array, count: int) -> Array:
    """The best score of every row's member slots, (count,)."""
    best = np.zeros(count, dtype=np.float32)
    np.maximum.at(best, rows[rows >= 0], scores[rows >= 0])
    return best


def _mean_boxes(rows: Integers, boxes: NDArray[np.float32], scores: NDArray[np.float32], count: int) -> Floats:
    """Score-weighted mean box of every row's member slots, (count, 4)."""
    members = rows >= 0
    owners = rows[members]
    weights = scores[members].astype(np.float64) + 1e-6  # a threshold of 0 lets slots pass that weigh nothing
    total = np.bincount(owners, weights, minlength=count)
    sums = [np.bincount(owners, weights * boxes[members][:, side], minlength=count) for side in range(4)]
    return np.stack(sums, axis=1) / total[:, None]


def _pairs(
    predictions: PairPredictions,
    subject_rows: Integers,
    thing_rows: Integers,
    subject_scores: Array,
    thing_scores: Array,
) -> Pairs:
    frames, slots = np.nonzero((subject_rows >= 0) & (thing_rows >= 0))
    subjects, things = subject_rows[frames, slots], thing_rows[frames, slots]
    best_first = np.lexsort((-slot_ranks(predictions)[frames, slots], things, subjects))
    frames, slots, subjects, things = (column[best_first] for column in (frames, slots, subjects, things))
    first = np.ones(len(frames), dtype=np.bool_)
    first[1:] = (subjects[1:] != subjects[:-1]) | (things[1:] != things[:-1])
    frames, slots = frames[first], slots[first]
    relation, epistemic, aleatoric = predictions.relation_scores, predictions.epistemic, predictions.aleatoric
    uncertainties = None
    if epistemic is not None and aleatoric is not None:
        uncertainties = np.stack((epistemic[frames, slots], aleatoric[frames, slots]), axis=-1)
    return Pairs(
        subjects=subjects[first],
        things=things[first],
        scores=subject_scores[subjects[first]].astype(np.float64) * thing_scores[things[first]],
        predicates=predictions.predicate_scores[frames, slots],
        relation_scores=None if relation is None else relation[frames, slots],
        uncertainties=uncertainties,
    )

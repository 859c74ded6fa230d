"""Near-duplicate pairs: one-stage models return the same pair in several slots, of which only the best counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.graph.predictions import Array, PairPredictions

# IoU over which two object boxes of one class are one thing, unless a bundle or a request says otherwise.
DUPLICATE_IOU = 0.5
# IoU over which two subject boxes are one subject. The field also counts a box as found from here on.
SAME_SUBJECT_IOU = 0.5
# Share of a subject's box within another's from which on it is a part of it, such as the upper body, unless a bundle
# says otherwise.
SAME_SUBJECT_CONTAINMENT = 0.85
# IoU over which boxes of two classes are one thing, unless a bundle says otherwise.
RIVAL_CLASS_IOU = 0.85

Boxes = NDArray[np.floating]
SameThing = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]]


def suppress_duplicates(predictions: PairPredictions, iou: float) -> PairPredictions:
    """Clears `pair_mask` of every slot that repeats a better one of its frame. All other arrays are shared, not copied.

    A slot repeats another when both have the same best object class and the same subject class, their object boxes
    overlap with an IoU over `iou` and their subject boxes with one over `SAME_SUBJECT_IOU`. "Better" is subject score x
    object score (x relation score where the model has one). Suppression is greedy, like non-maximum suppression: a
    suppressed slot suppresses nothing.

    Raises ValueError when `iou` is not in (0, 1].
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou must be in (0, 1], not {iou}")
    classes = predictions.object_scores.argmax(axis=-1)  # (T, P)
    things, subjects = predictions.object_boxes, predictions.subject_boxes
    subject_classes = predictions.subject_classes

    def same(rows: NDArray[np.intp], leaders: NDArray[np.intp]) -> NDArray[np.bool_]:
        one_class = classes[rows] == classes[rows, leaders, None]
        one_thing = box_iou(things[rows], things[rows, leaders, None]) > iou
        one_subject = box_iou(subjects[rows], subjects[rows, leaders, None]) > SAME_SUBJECT_IOU
        repeated: NDArray[np.bool_] = one_class & one_thing & one_subject
        if subject_classes is not None:
            repeated &= subject_classes[rows] == subject_classes[rows, leaders, None]
        return repeated

    leaders = find_leaders(predictions.pair_mask, slot_ranks(predictions), same)
    return replace(predictions, pair_mask=leaders == np.arange(leaders.shape[1]))


def pair_scores(predictions: PairPredictions) -> Array:
    """Returns the confidence in both boxes, (T, P) float32: subject score x score of the best object class."""
    scores: Array = predictions.subject_scores * predictions.object_scores.max(axis=-1)
    return scores


def slot_ranks(predictions: PairPredictions) -> Array:
    """Returns ranks of slots that show one pair, (T, P) float32: `pair_scores` x the relation score, if any."""
    scores = pair_scores(predictions)
    return scores if predictions.relation_scores is None else scores * predictions.relation_scores


def find_leaders(mask: NDArray[np.bool_], scores: Array, same: SameThing) -> NDArray[np.intp]:
    """Groups the slots of every frame greedily, best score first.

    Returns (T, P) intp: the slot that leads each slot's group (itself for a leader), -1 where `mask` is false.

    mask: (T, P) bool, true for slots that take part.
    scores: (T, P) float.
    same: takes R frames and one slot of each, both (R,). Returns (R, P) bool, true for slots that are the same as it.
    """
    order = np.argsort(np.where(mask, -scores, np.inf), axis=1, kind="stable")
    leaders = np.full(mask.shape, -1, dtype=np.intp)
    free = mask.copy()
    every_row = np.arange(len(mask))
    # One step per rank, for all frames at once: as many steps as the fullest frame has slots.
    for rank in range(int(mask.sum(axis=1).max(initial=0))):
        rows = every_row[free[every_row, order[:, rank]]]
        if not len(rows):
            continue
        slots = order[rows, rank]
        taken = same(rows, slots) & free[rows]
        taken[np.arange(len(rows)), slots] = True  # a box without area is not even its own duplicate
        leaders[rows] = np.where(taken, slots[:, None], leaders[rows])
        free[rows] &= ~taken
    return leaders


def box_iou(first: Boxes, second: Boxes) -> NDArray[np.floating]:
    """Returns IoU (...) of xyxy boxes (..., 4) that broadcast against each other, 0 where neither has an area."""
    shared = box_intersection(first, second)
    union = _area(first) + _area(second) - shared
    iou: NDArray[np.floating] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def box_containment(first: Boxes, second: Boxes) -> NDArray[np.floating]:
    """Returns the share of the smaller box that lies inside the other, (...), for boxes as in `box_iou`."""
    shared = box_intersection(first, second)
    smaller = np.minimum(_area(first), _area(second))
    share: NDArray[np.floating] = np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0)
    return share


def box_intersection(first: Boxes, second: Boxes) -> NDArray[np.floating]:
    """Returns the area that both boxes share, (...), for boxes as in `box_iou`."""
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    area: NDArray[np.floating] = np.maximum(width, 0) * np.maximum(height, 0)
    return area


def _area(boxes: Boxes) -> NDArray[np.floating]:
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    area: NDArray[np.floating] = np.maximum(width, 0) * np.maximum(height, 0)
    return area

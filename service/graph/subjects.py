"""Boxes that show one subject, and the subjects that no pair has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.graph.bundle import Statements
from models.graph.duplicates import (
    RIVAL_CLASS_IOU,
    SAME_SUBJECT_IOU,
    Boxes,
    box_containment,
    box_iou,
    find_leaders,
    pair_scores,
)
from models.graph.predictions import Array, PairPredictions
from models.graph.vocabulary import Vocabulary

Classes = NDArray[np.int64]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class LoneSubjects:
    """L subjects that no pair has, in order of frame and within a frame best first.

    frames: (L,) intp.
    boxes: (L, 4) float32, xyxy as a fraction of the picture.
    scores: (L,) float32.
    classes: (L,) int64, indices into the vocabulary's objects.
    """

    frames: Rows
    boxes: Array
    scores: Array
    classes: Classes

    def __len__(self) -> int:
        return len(self.frames)


def classes_or_default(classes: Classes | None, slots: tuple[int, ...], vocabulary: Vocabulary) -> Classes:
    """Returns the classes of subjects, (T, …) as `slots`: those of the model, or the vocabulary's only subject."""
    return np.full(slots, vocabulary.subject_indices[0], dtype=np.int64) if classes is None else classes


def subject_leaders(predictions: PairPredictions, statements: Statements) -> Rows:
    """Groups the pair slots of every frame by subject, (T, P); see `find_leaders`."""
    return _leaders(
        predictions.pair_mask,
        pair_scores(predictions),
        predictions.subject_boxes,
        predictions.subject_classes,
        statements,
    )


def shows_subject(predictions: PairPredictions, iou: float) -> NDArray[np.bool_]:
    """Returns whether the thing of every pair slot, (T, P), has the box of a subject that is at least as sure.

    iou: over which two boxes are one. Subjects are those of pairs of `pair_mask`.
    """
    boxes, subjects = predictions.object_boxes, predictions.subject_boxes
    # (T, things, subjects)
    rivals: NDArray[np.bool_] = box_iou(boxes[:, :, None], subjects[:, None]) > iou
    rivals &= predictions.subject_scores[:, None] >= predictions.object_scores.max(axis=-1)[:, :, None]
    rivals &= predictions.pair_mask[:, None]
    return np.logical_or.reduce(rivals, axis=-1)  # type: ignore[no-any-return]


def find_lone_subjects(predictions: PairPredictions, vocabulary: Vocabulary, statements: Statements) -> LoneSubjects:
    """Returns the subjects with a score over 0 that show none of those in a pair of `pair_mask`.

    Of boxes that show one subject, the best is kept. There are none where the model knows the subjects of pairs only.
    """
    boxes, scores = predictions.person_boxes, predictions.person_scores
    if boxes is None or scores is None:
        none = np.zeros(0, dtype=np.intp)
        return LoneSubjects(none, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none.astype(np.int64))
    classes, paired = predictions.person_classes, predictions.subject_classes
    in_pair = predictions.pair_mask[:, None] & _is_same_subject(  # (T, K, P)
        boxes[:, :, None],
        predictions.subject_boxes[:, None],
        None if classes is None or paired is None else classes[:, :, None] == paired[:, None],
        statements,
    )
    leaders = _leaders((scores > 0) & ~in_pair.any(axis=-1), scores, boxes, classes, statements)
    frames, slots = np.nonzero(leaders == np.arange(scores.shape[1]))
    order = np.lexsort((-scores[frames, slots], frames))
    frames, slots = frames[order], slots[order]
    known = classes_or_default(classes, scores.shape, vocabulary)
    return LoneSubjects(frames, boxes[frames, slots], scores[frames, slots], known[frames, slots])


def _leaders(
    mask: NDArray[np.bool_], scores: Array, boxes: Array, classes: Classes | None, statements: Statements
) -> Rows:
    """Groups the slots of every frame by subject; see `find_leaders`."""

    def same(rows: Rows, leaders: Rows) -> NDArray[np.bool_]:
        one_class = None if classes is None else classes[rows] == classes[rows, leaders, None]
        return _is_same_subject(boxes[rows], boxes[rows, leaders, None], one_class, statements)

    return find_leaders(mask, scores, same)


def _is_same_subject(
    first: Boxes, second: Boxes, one_class: NDArray[np.bool_] | None, statements: Statements
) -> NDArray[np.bool_]:
    """Whether boxes (..., 4) that broadcast against each other show one subject, or one of them a part of it.

    one_class: (...), whether both are of one class; None where there is only one.
    """
    iou = box_iou(first, second)
    is_part = box_containment(first, second) > statements.contained_subject_share
    same: NDArray[np.bool_] = (iou > SAME_SUBJECT_IOU) | is_part
    return same if one_class is None else same & (one_class | (iou > RIVAL_CLASS_IOU))

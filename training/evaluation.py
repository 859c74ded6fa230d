"""The field's evaluation protocol for dynamic scene graphs, in NumPy.

Four constraints say which triplets a pair may give (STTran's three and TR2's `top6`):

| constraint | triplets of one pair |
|---|---|
| `with` | the best predicate of every group: the best attention, the best spatial and the best contacting one |
| `semi` | the best predicate of an exclusive group (attention), and of others every one strictly above 0.9 |
| `no`   | all predicates; the 100 best triplets of the frame are kept |
| `top6` | the six most probable predicates |

Triplets are ranked by the product of subject score, object score and predicate probability, and of the pair's relation
score where a model gives one, as `models.graph.scoring` joins them. One matches an annotated relation when classes and
predicate are equal and both boxes overlap it by IoU >= 0.5, computed on pixels that have a width (`x2 - x1 + 1`). Three
figures follow for every K:

* **R@K**: the share of the frame's annotated relations that the first K triplets match; mean over frames. A triplet may
  match several relations, a relation counts once. A frame without predictions has recall 0.
* **mR@K**: TEMPURA's mean recall. The share of each predicate's relations that are matched, pooled over all frames,
  then the mean over all predicates of the vocabulary; one that never occurs adds 0.
* **P@K**: the triplets among the first K that match anything, divided by min(K, triplets of the frame); mean over
  frames. A frame without triplets has precision 0.

PredCls, SGCls and SGDet differ only in which boxes, labels and scores the predictions hold. Sources:
`evaluation_recall.py` of STTran, TR2 and TEMPURA, restated; equal scores rank as they do there on short lists, the
later candidate first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from models.graph.bundle import Scoring
from models.graph.scoring import join_scores
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from training.errors import EvaluationError
from training.tally import Booleans, Floats, Integers, Tally

Constraint = Literal["with", "semi", "no", "top6"]
Task = Literal["predcls", "sgcls", "sgdet"]
CONSTRAINTS: Final[tuple[Constraint, ...]] = ("with", "semi", "no", "top6")
TASKS: Final[tuple[Task, ...]] = ("predcls", "sgcls", "sgdet")
RECALL_AT: Final = (10, 20, 50, 100)

SEMI_THRESHOLD: Final = 0.9
CANDIDATES_WITHOUT_CONSTRAINT: Final = 100
TOP_PREDICATES: Final = 6
MATCHING_IOU: Final = 0.5

Figures = dict[str, dict[str, float]]
"""Constraint to metric (`R@20`) to a fraction."""
PredicateRecall = dict[str, dict[str, dict[str, float]]]
"""Constraint to metric (`R@20`) to predicate to a fraction."""


def _array(owner: object, field: str, dtype: type[np.generic], *widths: int) -> npt.NDArray[Any]:
    """Replaces a field by its array of `dtype` and shape (any, *widths); an empty sequence may have any shape."""
    value = np.asarray(getattr(owner, field))
    if value.shape[:1] == (0,):
        value = value.reshape(0, *widths)
    if value.ndim != 1 + len(widths) or value.shape[1:] != widths:
        wanted = ", ".join(["any", *map(str, widths)])
        raise EvaluationError(f"{type(owner).__name__}.{field} must have shape ({wanted}), but has {value.shape}")
    if np.issubdtype(dtype, np.integer) and value.size and not np.issubdtype(value.dtype, np.integer):
        raise EvaluationError(f"{type(owner).__name__}.{field} must hold integers, but holds {value.dtype}")
    value = value.astype(dtype)
    object.__setattr__(owner, field, value)
    return value


def _require_range(owner: object, field: str, values: npt.NDArray[Any], low: float, high: float, meaning: str) -> None:
    """Raises EvaluationError unless every value lies in [low, high]; NaN lies nowhere."""
    outside = ~((values >= low) & (values <= high))
    if outside.any():
        raise EvaluationError(
            f"{type(owner).__name__}.{field} holds {values[outside].flat[0]}: {meaning} lie in {low:g} to {high:g}"
        )


@dataclass(frozen=True, eq=False)
class FrameGroundTruth:
    """Annotation of one frame.

    boxes: (N, 4) float64, x1 y1 x2 y2 in pixels; the person and every visible object.
    labels: (N,) int64, indices into the vocabulary's objects.
    relations: (M, 3) int64, rows of (subject, object, predicate): two indices into `boxes` and one into the
        vocabulary's predicates, in the direction of the predicate's group. Rows are not de-duplicated.
    vocabulary: the vocabulary of the indices.

    Raises EvaluationError where a shape is wrong or an index out of range.
    """

    boxes: Floats
    labels: Integers
    relations: Integers
    vocabulary: Vocabulary = ACTION_GENOME

    def __post_init__(self) -> None:
        boxes = _array(self, "boxes", np.float64, 4)
        labels = _array(self, "labels", np.int64)
        relations = _array(self, "relations", np.int64, 3)
        _require_labelled_boxes(self, boxes, labels, self.vocabulary)
        _require_range(self, "relations", relations[:, :2], 0, len(boxes) - 1, "indices of boxes")
        _require_range(self, "relations", relations[:, 2], 0, len(self.vocabulary.predicates) - 1, "predicates")


@dataclass(frozen=True, eq=False)
class FramePredictions:
    """Predictions of a model for one frame; float32 input is widened to float64.

    boxes: (N, 4) float64, x1 y1 x2 y2 in pixels of the annotated frame.
    labels: (N,) int64, indices into the vocabulary's objects.
    scores: (N,) float64, probability of the label; 1 in PredCls.
    pairs: (P, 2) int64, rows of (subject, object), indices into `boxes`; the subject is the person.
    predicate_scores: (P, R) float64 probabilities in the order of the vocabulary's predicates.
    relation_scores: (P,) float64, how much each pair matters (RS-Net); None stands for 1 everywhere.
    vocabulary: the vocabulary of the indices and columns.

    Raises EvaluationError where a shape is wrong, an index out of range or a value no probability.
    """

    boxes: Floats
    labels: Integers
    scores: Floats
    pairs: Integers
    predicate_scores: Floats
    relation_scores: Floats | None = None
    vocabulary: Vocabulary = ACTION_GENOME

    def __post_init__(self) -> None:
        boxes = _array(self, "boxes", np.float64, 4)
        labels = _array(self, "labels", np.int64)
        _require_labelled_boxes(self, boxes, labels, self.vocabulary)
        pairs = _array(self, "pairs", np.int64, 2)
        _require_range(self, "pairs", pairs, 0, len(boxes) - 1, "indices of boxes")
        widths: dict[str, tuple[int, ...]] = {"predicate_scores": (len(self.vocabulary.predicates),)}
        if self.relation_scores is not None:
            widths["relation_scores"] = ()
        for field, width in {"scores": (), **widths}.items():
            probabilities = _array(self, field, np.float64, *width)
            rows = len(boxes) if field == "scores" else len(pairs)
            if len(probabilities) != rows:
                raise EvaluationError(f"FramePredictions.{field} must have {rows} rows, but has {len(probabilities)}")
            # float32 softmax may sum to a hair above one
            _require_range(self, field, probabilities, 0.0, 1.0 + 1e-6, "probabilities")

    @classmethod
    def none(cls, vocabulary: Vocabulary = ACTION_GENOME) -> "FramePredictions":
        """Returns the predictions for a frame in which a model finds nothing."""
        numbers, indices = np.zeros(0), np.zeros(0, dtype=np.int64)
        return cls(numbers, indices, numbers, indices, numbers, vocabulary=vocabulary)


def _require_labelled_boxes(owner: object, boxes: Floats, labels: Integers, vocabulary: Vocabulary) -> None:
    if len(labels) != len(boxes):
        raise EvaluationError(f"{type(owner).__name__} has {len(boxes)} boxes but {len(labels)} labels")
    if not np.isfinite(boxes).all():
        raise EvaluationError(f"{type(owner).__name__}.boxes holds a value that is not finite")
    _require_range(owner, "labels", labels, 0, len(vocabulary.objects) - 1, "object classes")


@dataclass(frozen=True, eq=False)
class _Rows:
    """A frame's predictions as the protocol sees them: a row per pair and group, group after group.

    subjects, objects: (G * P,) indices of boxes; swapped in groups whose triplets run from the object.
    weights: (G * P,) subject score x object score.
    relation_scores: (G * P,); None where the model has no relation scorer.
    probabilities: (G * P, R), zero outside the row's own group.
    in_group: (G * P, R), true where the column belongs to the row's group.
    """

    subjects: Integers
    objects: Integers
    weights: Floats
    relation_scores: Floats | None
    probabilities: Floats
    in_group: Booleans
    vocabulary: Vocabulary


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Triplets of one frame: (C,) rows of `_Rows` and (C,) predicates, in the order that breaks ties."""

    rows: Integers
    predicates: Integers


def _rows(predictions: FramePredictions) -> _Rows:
    vocabulary = predictions.vocabulary
    count, pairs = len(vocabulary.groups), len(predictions.pairs)
    probabilities = np.zeros((count, pairs, len(vocabulary.predicates)))
    in_group = np.zeros_like(probabilities, dtype=np.bool_)
    for block, group in enumerate(vocabulary.groups):
        columns = vocabulary.group_slices[group.name]
        probabilities[block, :, columns] = predictions.predicate_scores[:, columns]
        in_group[block, :, columns] = True
    subjects, objects = predictions.pairs.T
    relation_scores = predictions.relation_scores
    return _Rows(
        subjects=np.concatenate([objects if group.runs_from_object else subjects for group in vocabulary.groups]),
        objects=np.concatenate([subjects if group.runs_from_object else objects for group in vocabulary.groups]),
        weights=np.tile(predictions.scores[subjects] * predictions.scores[objects], count),
        relation_scores=None if relation_scores is None else np.tile(relation_scores, count),
        probabilities=probabilities.reshape(count * pairs, -1),
        in_group=in_group.reshape(count * pairs, -1),
        vocabulary=vocabulary,
    )


def _triplet_scores(rows: _Rows, chosen: _Candidates, scoring: Scoring) -> Floats:
    relations = None if rows.relation_scores is None else rows.relation_scores[chosen.rows]
    return join_scores(
        rows.weights[chosen.rows], rows.probabilities[chosen.rows, chosen.predicates], relations, scoring
    )


def _with_constraint(rows: _Rows, scoring: Scoring) -> _Candidates:
    return _Candidates(np.arange(len(rows.subjects)), rows.probabilities.argmax(axis=1))


def _semi_constraint(rows: _Rows, scoring: Scoring) -> _Candidates:
    groups = rows.vocabulary.groups
    by_group = rows.probabilities.reshape(len(groups), -1, rows.probabilities.shape[1])  # (G, P, R)
    chosen = np.zeros_like(by_group, dtype=np.bool_)
    for block, group in enumerate(groups):
        own, start = by_group[block], rows.vocabulary.group_slices[group.name].start
        # The published evaluator reads the group of a row from its first two columns: a row whose first two
        # probabilities are both exactly zero has no group and gives nothing.
        known = own[:, start : start + min(2, len(group.predicates))].sum(axis=1) > 0
        if group.exclusive:
            chosen[block, known, own[known].argmax(axis=1)] = True
        else:
            chosen[block] = (own > SEMI_THRESHOLD) & known[:, None]
    return _Candidates(*np.nonzero(chosen.reshape(rows.probabilities.shape)))


def _no_constraint(rows: _Rows, scoring: Scoring) -> _Candidates:
    # Only a row's own predicates: the zeros elsewhere match nothing, and would count as predictions in P@K.
    every = _Candidates(*np.nonzero(rows.in_group))
    best = np.argsort(-_triplet_scores(rows, every, scoring), kind="stable")[:CANDIDATES_WITHOUT_CONSTRAINT]
    return _Candidates(every.rows[best], every.predicates[best])


def _top_six(rows: _Rows, scoring: Scoring) -> _Candidates:
    starts = [columns.start for columns in rows.vocabulary.group_slices.values()]
    pairs = len(rows.subjects) // len(starts)
    # The groups do not overlap, so the sum puts the rows of a pair side by side.
    merged = rows.probabilities.reshape(len(starts), pairs, -1).sum(axis=0)
    predicates = np.argsort(-merged, axis=1, kind="stable")[:, :TOP_PREDICATES]
    blocks = np.searchsorted(starts[1:], predicates, side="right")
    return _Candidates((blocks * pairs + np.arange(pairs)[:, None]).ravel(), predicates.ravel())


_CANDIDATES_OF: Final[dict[Constraint, Callable[[_Rows, Scoring], _Candidates]]] = {
    "with": _with_constraint,
    "semi": _semi_constraint,
    "no": _no_constraint,
    "top6": _top_six,
}


def intersection_over_union(first: Floats, second: Floats) -> Floats:
    """Returns the IoU (A, B) float64 of all boxes; a box covers its last pixel: a width is `x2 - x1 + 1`.

    first, second: (A, 4) and (B, 4) float64, x1 y1 x2 y2 in pixels.
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = np.clip(high - low + 1, 0, None).prod(axis=2)
    first_area = (first[:, 2:] - first[:, :2] + 1).prod(axis=1)
    second_area = (second[:, 2:] - second[:, :2] + 1).prod(axis=1)
    union = first_area[:, None] + second_area[None, :] - intersection
    # Boxes that do not meet have IoU 0 whatever their areas are, even where an inverted box makes the union zero.
    overlap: Floats = np.divide(intersection, union, out=np.zeros_like(intersection), where=intersection > 0)
    return overlap


class Evaluator:
    """Adds up frames and gives the figures of the protocol.

        evaluator = Evaluator()
        for ground_truth, predictions in frames:
            evaluator.add(ground_truth, predictions)
        evaluator.result()["with"]["R@20"]  # a fraction

    Raises EvaluationError where a K is not from 1 to 100.

    recall_at: the values of K, at most 100, where the list without constraint ends.
    vocabulary: of all frames that are added.
    scoring: how the scores of a triplet join, as a bundle's manifest has it.
    constraints: the constraints whose figures are wanted.
    """

    def __init__(
        self,
        recall_at: Sequence[int] = RECALL_AT,
        vocabulary: Vocabulary = ACTION_GENOME,
        scoring: Scoring = Scoring(),  # noqa: B008 - frozen
        constraints: Sequence[Constraint] = CONSTRAINTS,
    ) -> None:
        if not recall_at or min(recall_at) < 1 or max(recall_at) > CANDIDATES_WITHOUT_CONSTRAINT:
            raise EvaluationError(f"recall_at is {tuple(recall_at)}: give one or more K from 1 to 100")
        self.frames = 0
        self._limit = max(recall_at)
        self._vocabulary = vocabulary
        self._scoring = scoring
        self._tallies = {constraint: Tally(recall_at, len(vocabulary.predicates)) for constraint in constraints}
        self._occurrences = np.zeros(len(vocabulary.predicates), dtype=np.int64)

    def add(self, ground_truth: FrameGroundTruth, predictions: FramePredictions) -> None:
        """Counts one frame, unless it has no annotated relation: such a frame is no frame of the protocol.

        Raises EvaluationError where either has another vocabulary.
        """
        for frame in (ground_truth, predictions):
            if not frame.vocabulary.same_columns(self._vocabulary):
                raise EvaluationError(f"{type(frame).__name__} has another vocabulary than the evaluator")
        if not len(ground_truth.relations):
            return
        self.frames += 1
        subjects, objects, predicates = ground_truth.relations.T  # each (M,)
        self._occurrences += np.bincount(predicates, minlength=len(self._occurrences))
        if not len(predictions.pairs):
            return
        rows = _rows(predictions)
        same = ground_truth.labels[:, None] == predictions.labels[None, :]
        same &= intersection_over_union(ground_truth.boxes, predictions.boxes) >= MATCHING_IOU  # (N, N')
        for constraint, tally in self._tallies.items():
            candidates = _CANDIDATES_OF[constraint](rows, self._scoring)
            if not len(candidates.rows):
                continue
            scores = _triplet_scores(rows, candidates, self._scoring)
            # No figure looks behind the largest K.
            ranking = np.argsort(scores, kind="stable")[::-1][: self._limit]
            ranked = candidates.rows[ranking]
            matches = predicates[:, None] == candidates.predicates[ranking][None, :]  # (M, C)
            matches &= same[subjects[:, None], rows.subjects[ranked][None, :]]
            matches &= same[objects[:, None], rows.objects[ranked][None, :]]
            tally.add(matches, predicates)

    def result(self) -> Figures:
        """Returns `{"with": {"R@10": …, "mR@10": …, "P@10": …, …}, "semi": …, "no": …, "top6": …}` as fractions.

        Raises EvaluationError where no frame with an annotated relation was added.
        """
        if not self.frames:
            raise EvaluationError("there is nothing to evaluate: no frame with an annotated relation was added")
        return {name: tally.figures(self.frames, self._occurrences) for name, tally in self._tallies.items()}

    def recall_by_predicate(self) -> PredicateRecall:
        """Returns `{"with": {"R@10": {"looking_at": …, …}, …}, …}`: the share of each predicate's relations that match.

        The shares are pooled over all frames; mR@K is their mean. A predicate that never occurs is left out.
        """
        occurring, names = self._occurrences.nonzero()[0], self._vocabulary.predicates
        return {
            constraint: {
                f"R@{k}": {names[index]: float(found[index] / self._occurrences[index]) for index in occurring}
                for k, found in zip(tally.recall_at, tally.found, strict=True)
            }
            for constraint, tally in self._tallies.items()
        }

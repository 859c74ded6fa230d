"""The neutral JSON format in which ground truth and any system's predictions meet the evaluator.

    ground truth  {"vocabulary": {…}, "videos": [{"id", "frames": [{"index",
                    "objects":   [{"label", "box": [x1, y1, x2, y2]}],
                    "relations": [{"subject", "predicate", "object"}]}]}]}
    predictions   {"videos": [{"id", "frames": [{"index",
                    "objects":   [{"label", "box", "score"}],
                    "pairs":     [{"subject", "object", "attention": [3], "spatial": [6], "contacting": [17]}]}]}]}

`subject` and `object` index the `objects` of the frame; boxes are pixels. In the ground truth a spatial relation runs
from the object to the person; in predictions the subject of a pair is the person, and a pair may hold a
`relation_score`, 1 where it is absent. Labels and predicates are names of the ground truth's `vocabulary`, which is as
in a bundle's manifest, and Action Genome's where it is absent; then pairs have a list for each of its groups.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from models.graph.validation import in_words
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from training.errors import DataError, EvaluationError, unknown_name
from training.evaluation import (
    RECALL_AT,
    Evaluator,
    Figures,
    FrameGroundTruth,
    FramePredictions,
    Task,
    intersection_over_union,
)

FrameName = tuple[str, int]
"""Video id and frame index."""

_Box = Annotated[list[float], Field(min_length=4, max_length=4)]
_Index = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    # NaN is no JSON, but Python writes and reads it.
    model_config = ConfigDict(allow_inf_nan=False)


class _AnnotatedObject(_Record):
    label: str
    box: _Box


class _Relation(_Record):
    subject: _Index
    predicate: str
    object: _Index


class _AnnotatedFrame(_Record):
    index: int
    objects: list[_AnnotatedObject]
    relations: list[_Relation]


class _PredictedObject(_AnnotatedObject):
    score: float


class _Pair(_Record):
    subject: _Index
    object: _Index
    relation_score: float = 1.0


_PairOf = TypeVar("_PairOf", bound=_Pair)


class _PredictedFrame(_Record, Generic[_PairOf]):
    index: int
    objects: list[_PredictedObject]
    pairs: list[_PairOf]


_Frame = TypeVar("_Frame", _AnnotatedFrame, _PredictedFrame[Any])


class _Video(_Record, Generic[_Frame]):
    id: str
    frames: list[_Frame]


class _File(_Record, Generic[_Frame]):
    vocabulary: Vocabulary | None = None
    videos: list[_Video[_Frame]]


def _pair_with(vocabulary: Vocabulary) -> type[_Pair]:
    """Returns a pair with the scores of each group under the group's name, one for each of its predicates."""
    scores: dict[str, Any] = {
        group.name: (
            Annotated[list[float], Field(min_length=len(group.predicates), max_length=len(group.predicates))], ...
        )
        for group in vocabulary.groups
    }  # fmt: skip
    return create_model("_Pair", __base__=_Pair, **scores)


@dataclass(frozen=True)
class Comparison:
    """The figures, and the frames that only one of the two files has.

    unpredicted: frames of the ground truth without predictions; each counts with recall and precision 0.
    unannotated: frames of the predictions without ground truth; they count for nothing.
    off_task: frames whose predictions hold more than the task gives: boxes (PredCls, SGCls) or labels (PredCls) that
        are not the annotated ones. They are scored all the same.
    """

    figures: Figures
    unpredicted: tuple[FrameName, ...]
    unannotated: tuple[FrameName, ...]
    off_task: tuple[FrameName, ...]


def load_ground_truth(path: Path) -> dict[FrameName, FrameGroundTruth]:
    """Loads the frames of a ground truth file in file order. Raises DataError with the file and the place in it."""
    frames: dict[FrameName, FrameGroundTruth] = {}
    file = _read(path, _File[_AnnotatedFrame], "ground truth")
    vocabulary = file.vocabulary or ACTION_GENOME
    for name, place, frame in _frames(path, file):
        relations = [
            (
                relation.subject,
                relation.object,
                _lookup(vocabulary.predicate_index, "predicate", relation.predicate, f"{place}.relations.{position}"),
            )
            for position, relation in enumerate(frame.relations)
        ]
        try:
            frames[name] = FrameGroundTruth(
                boxes=np.array([item.box for item in frame.objects]),
                labels=_labels(frame.objects, vocabulary, place),
                relations=np.array(relations),
                vocabulary=vocabulary,
            )
        except EvaluationError as error:
            raise DataError(f"{place}: {error}") from error
    return frames


def load_predictions(path: Path, vocabulary: Vocabulary = ACTION_GENOME) -> dict[FrameName, FramePredictions]:
    """Loads the frames of a predictions file in file order. Raises DataError with the file and the place in it."""
    frames: dict[FrameName, FramePredictions] = {}
    kind = cast(type[_File[_PredictedFrame[Any]]], _File[_PredictedFrame[_pair_with(vocabulary)]])  # type: ignore[misc]
    for name, place, frame in _frames(path, _read(path, kind, "predictions")):
        try:
            frames[name] = FramePredictions(
                boxes=np.array([item.box for item in frame.objects]),
                labels=_labels(frame.objects, vocabulary, place),
                scores=np.array([item.score for item in frame.objects]),
                pairs=np.array([(pair.subject, pair.object) for pair in frame.pairs]),
                predicate_scores=np.array([_predicate_scores(pair, vocabulary) for pair in frame.pairs]),
                relation_scores=np.array([pair.relation_score for pair in frame.pairs]),
                vocabulary=vocabulary,
            )
        except EvaluationError as error:
            raise DataError(f"{place}: {error}") from error
    return frames


def _predicate_scores(pair: _Pair, vocabulary: Vocabulary) -> list[float]:
    """Returns a pair's scores in the order of the vocabulary's predicates."""
    return [score for group in vocabulary.group_names for score in getattr(pair, group)]


def compare_files(
    ground_truth: Path, predictions: Path, *, task: Task, recall_at: Sequence[int] = RECALL_AT
) -> Comparison:
    """Scores a predictions file against a ground truth file.

    task: changes no figure; it says which of the predictions must be the annotation's own.

    Raises DataError where a file is missing or malformed, or where the two have no frame in common.
    """
    annotated = load_ground_truth(ground_truth)
    vocabulary = next((frame.vocabulary for frame in annotated.values()), ACTION_GENOME)
    predicted = load_predictions(predictions, vocabulary)
    if annotated and not annotated.keys() & predicted.keys():
        raise DataError(
            f"{predictions} and {ground_truth} have no frame in common (the ground truth begins with video "
            f"{next(iter(annotated))[0]!r}): video ids and frame indices must be the same in both"
        )
    evaluator = Evaluator(recall_at, vocabulary)
    nothing = FramePredictions.none(vocabulary)
    for name, frame in annotated.items():
        evaluator.add(frame, predicted.get(name, nothing))
    if not evaluator.frames:
        raise DataError(f"{ground_truth} has no frame with a relation: there is nothing to evaluate")
    return Comparison(
        figures=evaluator.result(),
        unpredicted=tuple(name for name in annotated if name not in predicted),
        unannotated=tuple(name for name in predicted if name not in annotated),
        off_task=tuple(
            name
            for name, frame in annotated.items()
            if name in predicted and not _fits_task(task, frame, predicted[name])
        ),
    )


def _fits_task(task: Task, ground_truth: FrameGroundTruth, predictions: FramePredictions) -> bool:
    if task == "sgdet":
        return True
    # Scaling to a network's frame size and back in float32 moves a box a little.
    given = intersection_over_union(ground_truth.boxes, predictions.boxes) > 0.9
    if task == "predcls":
        given &= ground_truth.labels[:, None] == predictions.labels[None, :]
    return bool(given.any(axis=0).all())


def _read(path: Path, kind: type[_File[_Frame]], what: str) -> _File[_Frame]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from error
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise DataError(
            f"{path} is not a {what} file: {in_words(error)}; training/neutral.py describes the format"
        ) from error


def _frames(path: Path, file: _File[_Frame]) -> Iterator[tuple[FrameName, str, _Frame]]:
    """Yields every frame with its name and its place in the file. Raises DataError where a name comes twice."""
    seen: set[FrameName] = set()
    for video_position, video in enumerate(file.videos):
        for frame_position, frame in enumerate(video.frames):
            name = (video.id, frame.index)
            place = f"{path}: videos.{video_position}.frames.{frame_position}"
            if name in seen:
                raise DataError(f"{place} is frame {frame.index} of video {video.id!r} again: give each frame once")
            seen.add(name)
            yield name, place, frame


def _labels(objects: Sequence[_AnnotatedObject], vocabulary: Vocabulary, place: str) -> np.typing.NDArray[np.int64]:
    return np.array(
        [
            _lookup(vocabulary.object_index, "object class", item.label, f"{place}.objects.{position}")
            for position, item in enumerate(objects)
        ],
        dtype=np.int64,
    )


def _lookup(indices: dict[str, int], kind: str, name: str, place: str) -> int:
    if name not in indices:
        raise DataError(f"{place}: {unknown_name(kind, name, indices)}")
    return indices[name]

"""The finished graph of a video: columns, and frames that are made of them while they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.graph.scene_graph import Frame, Relation, SceneObject, Triplet, Uncertainty
from models.graph.vocabulary import GROUP_OF_PREDICATE, OBJECT_CLASSES, PREDICATES
from service.graph.detections import Floats, Integers
from service.graph.rounding import rounded, rounded_boxes
from service.graph.triplets import Triplets

FRAMES_AT_ONCE = 64

_GROUPS = [GROUP_OF_PREDICATE[predicate] for predicate in PREDICATES]


@dataclass(frozen=True)
class Objects:
    """N people and things, in order of frame and within a frame people before things, then by id.

    frames  (N,)    int32
    ids     (N,)    intp, from 1
    labels  (N,)    intp, indices into `OBJECT_CLASSES`
    scores  (N,)    float32
    boxes   (N, 4)  float64, xyxy in pixels
    """

    frames: NDArray[np.int32]
    ids: Integers
    labels: Integers
    scores: NDArray[np.float32]
    boxes: Floats


@dataclass(frozen=True)
class VideoGraph:
    """The frames and the relations of a video's scene graph; `len` says how many frames.

    timestamps  (T,) float64, seconds
    relations   sorted by start, then best score first
    """

    timestamps: Floats
    objects: Objects
    triplets: Triplets
    relations: list[Relation]

    def __len__(self) -> int:
        return len(self.timestamps)

    def frames(self) -> Iterator[Frame]:
        """All frames in order, made while they are read."""
        for start in range(0, len(self), FRAMES_AT_ONCE):
            stop = min(start + FRAMES_AT_ONCE, len(self))
            objects = _objects_of_frames(self.objects, start, stop)
            triplets = _triplets_of_frames(self.triplets, start, stop)
            for index, timestamp in enumerate(self.timestamps[start:stop].tolist(), start):
                yield Frame(
                    index=index, timestamp=timestamp, objects=objects[index - start], triplets=triplets[index - start]
                )


def _objects_of_frames(objects: Objects, start: int, stop: int) -> list[list[SceneObject]]:
    shown: list[list[SceneObject]] = [[] for _ in range(start, stop)]
    rows = _rows(objects.frames, start, stop)
    for frame, identity, label, score, box in zip(
        objects.frames[rows].tolist(),
        objects.ids[rows].tolist(),
        objects.labels[rows].tolist(),
        rounded(objects.scores[rows]),
        rounded_boxes(objects.boxes[rows]),
        strict=True,
    ):
        shown[frame - start].append(SceneObject(id=identity, label=OBJECT_CLASSES[label], score=score, box=box))
    return shown


def _triplets_of_frames(triplets: Triplets, start: int, stop: int) -> list[list[Triplet]]:
    shown: list[list[Triplet]] = [[] for _ in range(start, stop)]
    rows = _rows(triplets.frames, start, stop)
    count = rows.stop - rows.start
    columns = (triplets.frames, triplets.subjects, triplets.predicates, triplets.objects)
    for frame, subject, predicate, object_, predicate_score, relation_score, score, uncertainty in zip(
        *(column[rows].tolist() for column in columns),
        rounded(triplets.predicate_scores[rows]),
        [None] * count if triplets.relation_scores is None else rounded(triplets.relation_scores[rows]),
        rounded(triplets.scores[rows]),
        [None] * count if triplets.uncertainties is None else _uncertainties(triplets.uncertainties[rows]),
        strict=True,
    ):
        shown[frame - start].append(
            Triplet(
                subject=subject,
                predicate=PREDICATES[predicate],
                object=object_,
                group=_GROUPS[predicate],
                predicate_score=predicate_score,
                relation_score=relation_score,
                score=score,
                uncertainty=uncertainty,
            )
        )
    return shown


def _rows(frames: NDArray[np.int32], start: int, stop: int) -> slice:
    """Where the rows of frames from `start` to before `stop` lie, in a column that is sorted by frame."""
    first, last = np.searchsorted(frames, (start, stop)).tolist()
    return slice(first, last)


def _uncertainties(uncertainties: NDArray[np.float32]) -> list[Uncertainty | None]:
    # A variance that was computed as a difference may lie a hair under 0.
    epistemic, aleatoric = (rounded(np.maximum(kind, 0)) for kind in uncertainties.T)
    return [
        Uncertainty(epistemic=of_model, aleatoric=of_video) if math.isfinite(of_model + of_video) else None
        for of_model, of_video in zip(epistemic, aleatoric, strict=True)
    ]

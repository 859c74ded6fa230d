"""The finished graph of a video: columns, relations merged over time, and frames that are made while they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.graph.scene_graph import Box, Frame, Relation, SceneObject, Triplet, Uncertainty
from models.graph.vocabulary import Vocabulary
from service.graph.detections import Floats, Integers
from service.graph.triplets import Triplets
from service.video.timing import TIME_DECIMALS

_FRAMES_MADE_AT_ONCE = 64
# A relation may be missing in this many samples and still be one relation.
BRIDGED_SAMPLES = 1
_TIME_TOLERANCE = 1e-6  # s
# Float32 noise would double the size of the JSON and say nothing.
SCORE_DECIMALS = 4
PIXEL_DECIMALS = 1


@dataclass(frozen=True)
class Objects:
    """N subjects and things, in order of frame and within a frame subjects before things, then by id.

    frames: (N,) int32.
    ids: (N,) intp, from 1.
    labels: (N,) intp, indices into the vocabulary's objects.
    scores: (N,) float32.
    boxes: (N, 4) float64, xyxy in pixels.
    """

    frames: NDArray[np.int32]
    ids: Integers
    labels: Integers
    scores: NDArray[np.float32]
    boxes: Floats


@dataclass(frozen=True)
class VideoGraph:
    """The frames and the relations of a video's scene graph; `len` is the number of frames.

    vocabulary: of the model; what indices of labels and predicates refer to.
    timestamps: (T,) float64, seconds.
    relations: sorted by start, then best score first.
    """

    vocabulary: Vocabulary
    timestamps: Floats
    objects: Objects
    triplets: Triplets
    relations: list[Relation]

    def __len__(self) -> int:
        return len(self.timestamps)

    @property
    def moments(self) -> list[float]:
        """The timestamps as the frames have them, rounded."""
        rounded: list[float] = np.round(self.timestamps, TIME_DECIMALS).tolist()
        return rounded

    def frames(self) -> Iterator[Frame]:
        """All frames in order, made while they are read."""
        moments = self.moments
        for start in range(0, len(self), _FRAMES_MADE_AT_ONCE):
            stop = min(start + _FRAMES_MADE_AT_ONCE, len(self))
            objects = self._objects_of_frames(start, stop)
            triplets = self._triplets_of_frames(start, stop)
            for index in range(start, stop):
                yield Frame(
                    index=index,
                    timestamp=moments[index],
                    objects=objects[index - start],
                    triplets=triplets[index - start],
                )

    def _objects_of_frames(self, start: int, stop: int) -> list[list[SceneObject]]:
        shown: list[list[SceneObject]] = [[] for _ in range(start, stop)]
        objects, labels = self.objects, self.vocabulary.objects
        rows = _rows(objects.frames, start, stop)
        for frame, identity, label, score, box in zip(
            objects.frames[rows].tolist(),
            objects.ids[rows].tolist(),
            objects.labels[rows].tolist(),
            _rounded(objects.scores[rows]),
            _rounded_boxes(objects.boxes[rows]),
            strict=True,
        ):
            shown[frame - start].append(SceneObject(id=identity, label=labels[label], score=score, box=box))
        return shown

    def _triplets_of_frames(self, start: int, stop: int) -> list[list[Triplet]]:
        shown: list[list[Triplet]] = [[] for _ in range(start, stop)]
        triplets, names = self.triplets, self.vocabulary.predicates
        groups = [group.name for group in self.vocabulary.groups for _ in group.predicates]
        rows = _rows(triplets.frames, start, stop)
        count = rows.stop - rows.start
        columns = (triplets.frames, triplets.subjects, triplets.predicates, triplets.objects)
        for frame, subject, predicate, object_, predicate_score, relation_score, score, uncertainty in zip(
            *(column[rows].tolist() for column in columns),
            _rounded(triplets.predicate_scores[rows]),
            [None] * count if triplets.relation_scores is None else _rounded(triplets.relation_scores[rows]),
            _rounded(triplets.scores[rows]),
            [None] * count if triplets.uncertainties is None else _uncertainties(triplets.uncertainties[rows]),
            strict=True,
        ):
            shown[frame - start].append(
                Triplet(
                    subject=subject,
                    predicate=names[predicate],
                    object=object_,
                    group=groups[predicate],
                    predicate_score=predicate_score,
                    relation_score=relation_score,
                    score=score,
                    uncertainty=uncertainty,
                )
            )
        return shown


def merge_relations(
    triplets: Triplets,
    vocabulary: Vocabulary,
    timestamps: Floats,
    duration: float | None,
    *,
    asked_interval: float = 0.0,
    bridged_seconds: float = 0.0,
) -> list[Relation]:
    """Merges equal triplets of consecutive sampled frames, sorted by start, then best score first.

    A relation goes on from one frame that shows it to the next where these are at most `bridged_seconds` apart, or
    where one sample at most lies between them. It lasts to one sampling interval after the last frame that shows it,
    but not beyond `duration` (seconds). A single frame has no interval: `asked_interval` (seconds) counts then. Scores
    are means over the frames that show it; a bridged sample adds to the time only.
    """
    if not len(triplets):
        return []
    order = np.lexsort((triplets.frames, triplets.objects, triplets.predicates, triplets.subjects))
    keys = np.stack([triplets.subjects, triplets.predicates, triplets.objects])[:, order]
    frames = triplets.frames[order]
    is_gap = np.diff(frames) > 1 + BRIDGED_SAMPLES
    if bridged_seconds:
        is_gap &= np.diff(timestamps[frames]) > bridged_seconds + _TIME_TOLERANCE
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0) | is_gap
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(order)) - 1
    counts = last - first + 1

    starts = timestamps[frames[first]]
    ends = timestamps[frames[last]] + sampling_interval(timestamps, asked_interval)
    if duration is not None:
        # Containers understate their duration at times; a relation never ends before it starts.
        ends = np.maximum(np.minimum(ends, duration), starts)
    starts, ends = np.round(starts, TIME_DECIMALS), np.round(ends, TIME_DECIMALS)
    scores = _rounded(np.add.reduceat(triplets.scores[order], first) / counts)
    relation_scores: list[float] | list[None] = [None] * len(first)
    if triplets.relation_scores is not None:
        relation_scores = _rounded(np.add.reduceat(triplets.relation_scores[order], first, dtype=np.float64) / counts)
    relations = [
        Relation(
            subject=subject,
            predicate=vocabulary.predicates[predicate],
            object=object_,
            start=start,
            end=end,
            score=score,
            relation_score=relation_score,
        )
        for subject, predicate, object_, start, end, score, relation_score in zip(
            *keys[:, first].tolist(), starts.tolist(), ends.tolist(), scores, relation_scores, strict=True
        )
    ]
    return sorted(relations, key=lambda relation: (relation.start, -relation.score))


def sampling_interval(timestamps: Floats, asked: float = 0.0) -> float:
    """Returns the median distance of sampled frames in seconds; what was asked for where there are fewer than two."""
    return float(np.median(np.diff(timestamps))) if len(timestamps) > 1 else asked


def _rows(frames: NDArray[np.int32], start: int, stop: int) -> slice:
    """Returns the rows of the frames from `start` to before `stop`, in a column that is sorted by frame."""
    first, last = np.searchsorted(frames, (start, stop)).tolist()
    return slice(first, last)


def _rounded(values: NDArray[np.floating]) -> list[float]:
    """Plain floats of (N,) scores."""
    result: list[float] = np.round(values.astype(np.float64), SCORE_DECIMALS).tolist()
    return result


def _rounded_boxes(boxes: Floats) -> list[Box]:
    """Plain tuples of (N, 4) boxes in pixels."""
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in np.round(boxes, PIXEL_DECIMALS).tolist()]


def _uncertainties(uncertainties: NDArray[np.float32]) -> list[Uncertainty | None]:
    # A variance that was computed as a difference may lie a hair under 0.
    epistemic, aleatoric = (_rounded(np.maximum(kind, 0)) for kind in uncertainties.T)
    return [
        Uncertainty(epistemic=of_model, aleatoric=of_video) if math.isfinite(of_model + of_video) else None
        for of_model, of_video in zip(epistemic, aleatoric, strict=True)
    ]

"""Puts the scene graph of a video together, clip by clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from models.graph.bundle import Scoring, Statements, Thresholds
from models.graph.predictions import PairPredictions
from models.graph.scene_graph import Constraint
from models.graph.vocabulary import Vocabulary
from service.graph.columns import joined
from service.graph.detections import Detections, Floats, Integers, find_pairs
from service.graph.smoothing import PairSmoother
from service.graph.tracking import Linker, Tracks
from service.graph.triplets import Candidates, Rules, choose_triplets, find_candidates, keep_lasting
from service.graph.video_graph import Objects, VideoGraph, merge_relations, sampling_interval

# In a longer video an object must be seen as often as the bundle says, and a detection of one frame only that is no
# surer than this is a false alarm.
SHORT_VIDEO = 4  # frames
FALSE_ALARM_SCORE = 0.4
# So many frames that show a subject surely are enough, where the bundle says what is sure.
SURE_SIGHTINGS = 2
# One pass over this many frames costs little more than one over the few of a clip.
FRAMES_AT_ONCE = 32


class GraphBuilder:
    """Takes a model's predictions clip by clip and makes the scene graph of the video.

    Of what it was given it keeps the detections and the triplets that passed the thresholds; the predictions themselves
    are dropped after at most `FRAMES_AT_ONCE` frames, and pairs once no later frame smooths their scores. How a video
    is cut into clips changes nothing in its graph.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        width: int,
        height: int,
        thresholds: Thresholds,
        scoring: Scoring,
        min_score: float,
        top_k: int,
        constraint: Constraint,
        statements: Statements,
        duration: float | None = None,
        asked_interval: float = 0.0,
    ) -> None:
        """
        vocabulary: of the bundle's manifest, as are `thresholds`, `scoring` and `statements`.
        width: of the displayed video in pixels, as is `height`.
        min_score: least triplet score.
        top_k: most triplets per frame.
        constraint: see `Rules`.
        duration: of the video in seconds, where it is known. No relation lasts beyond it.
        asked_interval: seconds from one frame to the next that sampling was asked for.
        """
        self._vocabulary = vocabulary
        self._width, self._height = width, height
        self._linker = Linker(
            diagonal=float(np.hypot(width, height)),
            classes=len(vocabulary.objects),
            longest_gap=statements.longest_gap,
        )
        self._smoother = PairSmoother(statements.smoothing_seconds)
        self._rules = Rules(vocabulary, thresholds, scoring, statements, min_score, top_k, constraint)
        self._duration = duration
        self._asked_interval = asked_interval
        self._timestamps: list[Floats] = []
        self._waiting: list[PairPredictions] = []  # of the last frames that have a timestamp
        self._detections: list[Detections] = []
        self._candidates: list[Candidates] = []  # no two parts have a frame in common, and earlier frames come first
        self._frame_count = self._detection_count = 0

    def add(self, predictions: PairPredictions, timestamps: Sequence[float] | NDArray[np.floating]) -> None:
        """Takes the next clip of T frames; `timestamps` (T,) are its presentation times in seconds, ascending.

        The arrays may be reused afterwards. Raises ValueError when there is not one timestamp per frame.
        """
        times = np.array(timestamps, dtype=np.float64)
        if times.shape != (len(predictions),):
            raise ValueError(f"timestamps must have shape ({len(predictions)},), one per frame, not {times.shape}")
        for start in range(0, max(1, len(times)), FRAMES_AT_ONCE):
            part = slice(start, start + FRAMES_AT_ONCE)
            self._timestamps.append(times[part])
            self._waiting.append(_copied(predictions, part))
            if sum(map(len, self._waiting)) >= FRAMES_AT_ONCE:
                self._read_waiting()

    def finish(self) -> VideoGraph:
        """The graph of all that was added.

        Objects have ids from 1 that are stable over the video, in order of first appearance, subjects before things.
        An object keeps one label, the vote of all its detections; its score in a frame is that frame's. Frames without
        detections stay empty. Scores are rounded to 4 decimals and boxes to tenths of a pixel. Triplets carry the
        uncertainty that the predictions give them; where these have none, or none that is a number, they carry none.

        Raises ValueError when nothing was added.
        """
        if not self._timestamps:
            raise ValueError("there are no predictions to make a graph of; add those of at least one clip")
        if self._waiting:
            self._read_waiting()
        self._candidates.append(find_candidates(self._smoother.finish(), self._rules))
        timestamps = np.concatenate(self._timestamps)
        detections = joined(self._detections)
        tracks = self._linker.tracks()
        ids = _identify(detections, tracks, self._rules.statements, timestamps)
        # Part by part, as sorting a long video's candidates at once would take several times their memory.
        triplets = joined([choose_triplets(part, detections, ids, self._rules) for part in self._candidates])
        triplets = keep_lasting(triplets, _least_frames(self._rules.statements.least_stated_seconds, timestamps))
        relations = merge_relations(
            triplets,
            self._vocabulary,
            timestamps,
            self._duration,
            asked_interval=self._asked_interval,
            bridged_seconds=self._rules.statements.bridged_seconds,
        )
        return VideoGraph(self._vocabulary, timestamps, _objects(detections, tracks, ids), triplets, relations)

    def _read_waiting(self) -> None:
        predictions = PairPredictions.concatenate(self._waiting)
        timestamps = np.concatenate(self._timestamps[-len(self._waiting) :])
        self._waiting.clear()
        detections, pairs = find_pairs(
            predictions,
            self._vocabulary,
            width=self._width,
            height=self._height,
            thresholds=self._rules.thresholds,
            statements=self._rules.statements,
        )
        tracks = self._linker.add(detections, timestamps)
        smoothed = self._smoother.add(
            # Of the whole video, as pairs may wait for the next frames.
            replace(
                pairs, subjects=pairs.subjects + self._detection_count, things=pairs.things + self._detection_count
            ),
            tracks=np.stack([tracks[pairs.subjects], tracks[pairs.things]], axis=1),
            times=timestamps[detections.frames[pairs.subjects]],
            until=float(timestamps.max(initial=-np.inf)),
        )
        self._candidates.append(find_candidates(smoothed, self._rules))
        self._detections.append(
            replace(
                detections,
                frames=detections.frames + self._frame_count,
                # Only linking needs them, and a detector may know a thousand classes.
                class_scores=np.zeros((len(detections), 0), dtype=np.float32),
            )
        )
        self._frame_count += len(predictions)
        self._detection_count += len(detections)


def _copied(predictions: PairPredictions, frames: slice) -> PairPredictions:
    """Some frames; a copy, because the arrays may be views that keep a batch of many videos' clips in memory."""

    def copy(name: str) -> NDArray[np.generic] | None:
        array = getattr(predictions, name)
        return None if array is None else array[frames].copy()

    return PairPredictions(**{field.name: copy(field.name) for field in fields(predictions)})  # type: ignore[arg-type]


def _identify(detections: Detections, tracks: Tracks, statements: Statements, timestamps: Floats) -> Integers:
    """Ids of all detections, (N,); 0 for those of objects that are not believed."""
    count = len(tracks.classes)
    first_rows = np.full(count, len(detections), dtype=np.intp)
    np.minimum.at(first_rows, tracks.of_detection, np.arange(len(detections)))
    lengths = np.bincount(tracks.of_detection, minlength=count)
    best = np.zeros(count)
    np.maximum.at(best, tracks.of_detection, detections.scores)
    seen_again = (lengths > 1) | (best >= FALSE_ALARM_SCORE)
    seen_again &= (lengths >= _least_sightings(statements, timestamps)) | _are_sure(detections, tracks, statements)
    real = np.flatnonzero((seen_again | (len(timestamps) <= SHORT_VIDEO)) & (best >= statements.least_best_score))
    first_rows = first_rows[real]
    order = np.lexsort((real, ~detections.is_subject[first_rows], detections.frames[first_rows]))
    ids = np.zeros(count, dtype=np.intp)
    ids[real[order]] = np.arange(1, len(real) + 1)
    return ids[tracks.of_detection]


def _are_sure(detections: Detections, tracks: Tracks, statements: Statements) -> NDArray[np.bool_]:
    """Whether enough frames show each track surely, (K,)."""
    count = len(tracks.classes)
    sure = np.zeros(count, dtype=np.bool_)
    for of_kind, score, sightings in (
        (detections.is_subject, statements.sure_subject_score, SURE_SIGHTINGS),
        (~detections.is_subject, statements.sure_thing_score, max(SURE_SIGHTINGS, statements.least_sightings)),
    ):
        if score is not None:
            is_sure = of_kind & (detections.scores >= score)
            sure |= np.bincount(tracks.of_detection[is_sure], minlength=count) >= sightings
    return sure


def _least_sightings(statements: Statements, timestamps: Floats) -> int:
    """The number of frames that must show an object."""
    return _least_frames(statements.least_seconds, timestamps, at_least=statements.least_sightings)


def _least_frames(seconds: float, timestamps: Floats, *, at_least: int = 0) -> int:
    """The number of frames that cover about so many seconds, but never more than half of them."""
    interval = sampling_interval(timestamps)
    # Not rounded up: a video's own frames lie a little off, 0.48 s instead of 0.5 s.
    lasting = round(seconds / interval) if interval else 0
    return min(max(at_least, lasting), len(timestamps) // 2)


def _objects(detections: Detections, tracks: Tracks, ids: Integers) -> Objects:
    """All detections that have an id."""
    rows = np.lexsort((ids, ~detections.is_subject, detections.frames))
    rows = rows[ids[rows] > 0]
    return Objects(
        frames=detections.frames[rows],
        ids=ids[rows],
        labels=tracks.classes[tracks.of_detection[rows]],
        scores=detections.scores[rows],
        boxes=detections.boxes[rows],
    )

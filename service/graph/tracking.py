"""Stable identities: links the detections of sampled frames into tracks, each with one label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.duplicates import box_iou
from service.graph.detections import Detections, Floats, Integers

LONGEST_GAP = 2.0  # s; what was unseen for longer comes back as something new
# With sparse sampling two seconds are less than a sample; one missed sample must be survived there, too.
LONGEST_GAP_IN_SAMPLES = 2.5
SAME_PLACE_IOU = 0.3
# A detection of another class continues a track only where it clearly covers the same place.
OTHER_CLASS_IOU = 0.5
OTHER_CLASS_COST = 0.5
# Small things in a hand move by many times their size between samples: how far, in frame diagonals, that may be.
SMALLEST_REACH = 0.12
LARGEST_AREA_RATIO = 6.0
VELOCITY_MEMORY = 0.5
# A heading is worth a missed sample; further out it would throw the box off the picture.
LONGEST_HEADING_IN_SAMPLES = 2
FORBIDDEN = 100.0  # a cost no sum of allowed ones comes near


@dataclass(frozen=True)
class Tracks:
    """Which track every detection belongs to, (N,) intp, and the class index of every track, (K,) intp."""

    of_detection: Integers
    classes: Integers


def link(detections: Detections, timestamps: Floats, *, diagonal: float) -> Tracks:
    """Links detections over time.

    Detections and live tracks of a frame are assigned by the Hungarian method on overlap, on the distance of centres
    relative to size (from where the track was and from where it was heading), and on class; people and things never
    share a track. Tracks live through gaps of about `LONGEST_GAP`. A track's class is the vote of all its detections,
    each with its full class scores, so that a class that flickers neither breaks a track nor renames it. No box is
    invented in a gap.

    timestamps  (T,) float64, seconds, ascending
    diagonal    px, of the picture
    """
    interval = sampling_interval(timestamps)
    longest_gap = max(LONGEST_GAP, LONGEST_GAP_IN_SAMPLES * interval) + 1e-6
    paths = _Paths(detections, timestamps[detections.frames], interval, diagonal)
    live = np.arange(0)  # the rows in which the tracks that may go on were seen last
    shown, firsts = np.unique(detections.frames, return_index=True)
    bounds = [*firsts.tolist(), len(detections)]
    for now, first, last in zip(timestamps[shown].tolist(), bounds[:-1], bounds[1:], strict=True):
        live = live[now - paths.seen_at[live] <= longest_gap]
        rows = np.arange(first, last)
        found, matched = paths.assign(rows, live, now)
        paths.go_on(rows[found], live[matched], now)
        new, unseen = np.ones(len(rows), dtype=np.bool_), np.ones(len(live), dtype=np.bool_)
        new[found] = unseen[matched] = False
        paths.start(rows[new])
        live = np.concatenate([live[unseen], rows[found], rows[new]])
    return Tracks(paths.tracks, paths.votes[: paths.count].argmax(axis=1))


def sampling_interval(timestamps: Floats) -> float:
    """Median distance of sampled frames in seconds; 0 for fewer than two."""
    return float(np.median(np.diff(timestamps))) if len(timestamps) > 1 else 0.0


class _Paths:
    """Every detection with the track it belongs to and where that track was heading.

    seen_at     (N,)     float64, s, of every detection
    tracks      (N,)     intp, where known
    velocities  (N, 2)   float64, px/s of the centre, where known
    votes       (K, 36)  float64, sums of class scores of every track so far, for `count` tracks and none beyond
    """

    def __init__(self, detections: Detections, seen_at: Floats, interval: float, diagonal: float) -> None:
        self._boxes, self._class_scores = detections.boxes, detections.class_scores
        self._is_person = detections.is_person
        self._interval, self._smallest_reach = interval, SMALLEST_REACH * diagonal
        self._centres, self._sizes, self._areas = _centres(self._boxes), _sizes(self._boxes), _areas(self._boxes)
        self._classes = self._class_scores.argmax(axis=1)
        self.seen_at = seen_at
        self.tracks = np.zeros(len(detections), dtype=np.intp)
        self.velocities = np.zeros((len(detections), 2))
        # There can be no more tracks than detections; memory that no track ever touches is not taken.
        self.votes = np.zeros(self._class_scores.shape)
        self.count = 0

    def start(self, rows: Integers) -> None:
        """Each of these detections begins a track."""
        tracks = np.arange(self.count, self.count + len(rows))
        self.tracks[rows] = tracks
        self.votes[tracks] = self._class_scores[rows]
        self.count += len(rows)

    def go_on(self, rows: Integers, previous: Integers, now: float) -> None:
        """Each of these detections continues the track of a previous one."""
        elapsed = np.maximum(now - self.seen_at[previous], 1e-3)  # two frames may carry the same time
        velocities = (self._centres[rows] - self._centres[previous]) / elapsed[:, None]
        self.velocities[rows] = VELOCITY_MEMORY * self.velocities[previous] + (1 - VELOCITY_MEMORY) * velocities
        tracks = self.tracks[rows] = self.tracks[previous]
        self.votes[tracks] += self._class_scores[rows]

    def assign(self, rows: Integers, live: Integers, now: float) -> tuple[Integers, Integers]:
        """Which detections continue which tracks: positions in `rows` and in `live`, of equal length."""
        if not len(live):
            return live, live
        unseen = now - self.seen_at[live]
        shift = self.velocities[live] * np.minimum(unseen, LONGEST_HEADING_IN_SAMPLES * self._interval)[:, None]
        places = np.empty((2, 1, len(live), 4))  # where the tracks were, and where they were heading
        places[0] = self._boxes[live]
        places[1, ..., :2] = places[0, ..., :2] + shift
        places[1, ..., 2:] = places[0, ..., 2:] + shift

        # Matrices below are (detections, tracks).
        overlap = box_iou(self._boxes[rows, None], places).max(axis=0)
        distance = _distances(self._centres[rows, None], _centres(places)).min(axis=0)
        reach = np.maximum((self._sizes[rows, None] + self._sizes[live]) / 2, self._smallest_reach)
        reach = reach * (1 + np.maximum(unseen - self._interval, 0) / LONGEST_GAP)
        area_ratio = self._areas[rows, None] / self._areas[live]
        alike = (area_ratio <= LARGEST_AREA_RATIO) & (area_ratio >= 1 / LARGEST_AREA_RATIO)
        classes, votes = self._classes[rows], self.votes[self.tracks[live]]
        same_class = classes[:, None] == votes.argmax(axis=1)
        share = votes[:, classes].T / np.maximum(votes.sum(axis=1), 1e-9)

        near = (overlap > SAME_PLACE_IOU) | ((distance <= reach) & alike)
        allowed = np.where(same_class, near, overlap > OTHER_CLASS_IOU)
        allowed &= self._is_person[rows, None] == self._is_person[live]
        cost = (1 - overlap) / 2 + distance / reach / 2 + np.where(same_class, 0, OTHER_CLASS_COST * (1 - share))
        from scipy.optimize import linear_sum_assignment  # the API of a fleet imports this module and has no SciPy

        found, matched = linear_sum_assignment(np.where(allowed, cost, FORBIDDEN))
        accepted = allowed[found, matched]
        return found[accepted], matched[accepted]


def _centres(boxes: Floats) -> Floats:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _distances(centres: Floats, others: Floats) -> Floats:
    """Between centres (..., 2) and (..., 2) that broadcast against each other, (...)."""
    apart = centres - others
    apart *= apart
    distances: Floats = np.sqrt(apart[..., 0] + apart[..., 1])
    return distances


def _sizes(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0] + boxes[:, 3] - boxes[:, 1]) / 2


def _areas(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

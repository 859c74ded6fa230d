"""Stable identities: links the detections of sampled frames into tracks, each with one label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

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


@dataclass(frozen=True)
class _Live:
    """The L tracks that may go on."""

    tracks: Integers  # (L,), their numbers
    boxes: Floats  # (L, 4), where they were last
    velocities: Floats  # (L, 2), px/s of the centre
    last_seen: Floats  # (L,), s
    votes: Floats  # (L, 36), sums of class scores so far

    def __len__(self) -> int:
        return len(self.tracks)

    def only(self, chosen: NDArray[np.bool_] | Integers) -> _Live:
        """The chosen ones."""
        return _Live(*(column[chosen] for column in self._columns()))

    def joined(self, others: _Live) -> _Live:
        """These, then the others."""
        return _Live(*map(np.concatenate, zip(self._columns(), others._columns(), strict=True)))

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.tracks, self.boxes, self.velocities, self.last_seen, self.votes


def link(detections: Detections, timestamps: Floats, *, diagonal: float) -> Tracks:
    """Links detections over time.

    Detections and live tracks of a frame are assigned by the Hungarian method on overlap, on the distance of centres
    relative to size (from where the track was and from where it was heading), and on class. Tracks live through gaps of
    about `LONGEST_GAP`. A track's class is the vote of all its detections, each with its full class scores, so that a
    class that flickers neither breaks a track nor renames it. No box is invented in a gap.

    timestamps  (T,) float64, seconds, ascending
    diagonal    px, of the picture
    """
    interval = sampling_interval(timestamps)
    longest_gap = max(LONGEST_GAP, LONGEST_GAP_IN_SAMPLES * interval) + 1e-6
    of_detection = np.zeros(len(detections), dtype=np.intp)
    live = _started(detections, np.arange(0), np.arange(0), 0.0)
    count = 0
    bounds = np.searchsorted(detections.frames, np.arange(len(timestamps) + 1)).tolist()
    for now, first, last in zip(timestamps.tolist(), bounds[:-1], bounds[1:], strict=True):
        live = live.only(now - live.last_seen <= longest_gap)
        rows = np.arange(first, last)
        found, matched = _assign(live, detections, rows, now, interval, diagonal)
        new = np.delete(rows, found)
        of_detection[rows[found]] = live.tracks[matched]
        of_detection[new] = np.arange(count, count + len(new))
        unseen = live.only(np.delete(np.arange(len(live)), matched))
        seen = _continued(live.only(matched), detections, rows[found], now)
        live = unseen.joined(seen).joined(_started(detections, new, of_detection[new], now))
        count += len(new)
    votes = np.zeros((count, detections.class_scores.shape[1]))
    np.add.at(votes, of_detection, detections.class_scores)
    return Tracks(of_detection, votes.argmax(axis=1))


def sampling_interval(timestamps: Floats) -> float:
    """Median distance of sampled frames in seconds; 0 for fewer than two."""
    return float(np.median(np.diff(timestamps))) if len(timestamps) > 1 else 0.0


def _assign(
    live: _Live, detections: Detections, rows: Integers, now: float, interval: float, diagonal: float
) -> tuple[Integers, Integers]:
    """Which detections continue which tracks: positions in `rows` and positions in `live`, of equal length."""
    unseen = now - live.last_seen
    shift = live.velocities * np.minimum(unseen, LONGEST_HEADING_IN_SAMPLES * interval)[:, None]
    ahead = live.boxes + np.tile(shift, 2)
    boxes, class_scores = detections.boxes[rows], detections.class_scores[rows]

    # Matrices below are (detections, tracks).
    overlap = np.maximum(box_iou(boxes[:, None], live.boxes), box_iou(boxes[:, None], ahead))
    distance = np.minimum(_distances(boxes, live.boxes), _distances(boxes, ahead))
    reach = np.maximum((_sizes(boxes)[:, None] + _sizes(live.boxes)) / 2, SMALLEST_REACH * diagonal)
    reach = reach * (1 + np.maximum(unseen - interval, 0) / LONGEST_GAP)
    area_ratio = _areas(boxes)[:, None] / _areas(live.boxes)
    alike = (area_ratio <= LARGEST_AREA_RATIO) & (area_ratio >= 1 / LARGEST_AREA_RATIO)
    classes = class_scores.argmax(axis=1)
    same_class = classes[:, None] == live.votes.argmax(axis=1)
    share = live.votes[:, classes].T / np.maximum(live.votes.sum(axis=1), 1e-9)

    near = (overlap > SAME_PLACE_IOU) | ((distance <= reach) & alike)
    allowed = np.where(same_class, near, overlap > OTHER_CLASS_IOU)
    cost = (1 - overlap) / 2 + distance / reach / 2 + np.where(same_class, 0, OTHER_CLASS_COST * (1 - share))
    found, matched = linear_sum_assignment(np.where(allowed, cost, FORBIDDEN))
    accepted = allowed[found, matched]
    return found[accepted], matched[accepted]


def _started(detections: Detections, rows: Integers, tracks: Integers, now: float) -> _Live:
    return _Live(
        tracks=tracks,
        boxes=detections.boxes[rows],
        velocities=np.zeros((len(rows), 2)),
        last_seen=np.full(len(rows), now),
        votes=detections.class_scores[rows],
    )


def _continued(live: _Live, detections: Detections, rows: Integers, now: float) -> _Live:
    boxes = detections.boxes[rows]
    elapsed = np.maximum(now - live.last_seen, 1e-3)  # two frames may carry the same time
    velocities = (_centres(boxes) - _centres(live.boxes)) / elapsed[:, None]
    return _Live(
        tracks=live.tracks,
        boxes=boxes,
        velocities=VELOCITY_MEMORY * live.velocities + (1 - VELOCITY_MEMORY) * velocities,
        last_seen=np.full(len(rows), now),
        votes=live.votes + detections.class_scores[rows],
    )


def _centres(boxes: Floats) -> Floats:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _distances(boxes: Floats, others: Floats) -> Floats:
    """Between all centres, (len(boxes), len(others))."""
    centres, other_centres = _centres(boxes), _centres(others)
    right = centres[:, :1] - other_centres[:, 0]
    down = centres[:, 1:] - other_centres[:, 1]
    distances: Floats = np.sqrt(right * right + down * down)
    return distances


def _sizes(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0] + boxes[:, 3] - boxes[:, 1]) / 2


def _areas(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

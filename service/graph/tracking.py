"""Stable identities: links the detections of sampled frames into tracks, each with one label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.graph.bundle import LONGEST_GAP
from models.graph.duplicates import box_intersection
from models.graph.predictions import Array
from service.graph.detections import Detections, Floats, Integers

Complexes = NDArray[np.complex128]
"""Points of the picture, x + iy in pixels: the distance of two is an absolute value."""
_CENTRE = 2  # of a box's points, after its corners

# With sparse sampling the longest gap is less than a sample; one missed sample must be survived there, too.
LONGEST_GAP_IN_SAMPLES = 2.5
SAME_PLACE_IOU = 0.3
# A class that scores this share of the best one may be meant as well. A detection of a class that cannot be meant
# continues a track only where it clearly covers the same place.
ALIKE = 0.5
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
    """The track of every detection, and the class of every track.

    of_detection: (N,) intp.
    classes: (K,) intp, indices into the vocabulary's objects.
    """

    of_detection: Integers
    classes: Integers


class Linker:
    """Links detections over time, a few sampled frames after the other; how they are cut changes nothing.

    Detections and live tracks of a frame are assigned by the Hungarian method on overlap, on the distance of centres
    relative to size (from where the track was and from where it was heading), and on class, of which both tell with
    their scores what else it may be. Subjects and things never share a track. Tracks live through gaps of about
    `LONGEST_GAP`, or `longest_gap` for things. A track's class is the vote of all its detections, each with its full
    class scores, so that a class that flickers neither breaks a track nor renames it. No box is invented in a gap. The
    sampling interval is the mean of those so far.
    """

    def __init__(self, *, diagonal: float, classes: int, longest_gap: float = LONGEST_GAP) -> None:
        """
        diagonal: px, of the picture.
        classes: how many the vocabulary has.
        longest_gap: s; a thing that was unseen for longer comes back as something new.
        """
        self._longest_gap = longest_gap
        self._smallest_reach = SMALLEST_REACH * diagonal
        self._live = _Sightings.none()  # the last of every track that may go on
        self._tracks: list[Integers] = []
        # Sums of class scores of every track so far, (K, classes), for `_count` tracks and none beyond.
        self._votes = np.zeros((0, classes))
        self._count = self._frames = 0
        self._began = 0.0

    def add(self, detections: Detections, timestamps: Floats) -> Integers:
        """Links the detections of the next T frames; these count from 0. Returns the track of each, (N,).

        timestamps: (T,) float64, seconds, ascending.
        """
        if not self._frames and len(timestamps):
            self._began = float(timestamps[0])
        intervals = (timestamps - self._began) / np.maximum(self._frames + np.arange(len(timestamps)), 1)
        self._frames += len(timestamps)
        carried = len(self._live)
        seen = self._live.followed_by(detections, timestamps[detections.frames])
        # There can be no more new tracks than detections.
        self._votes = np.concatenate([self._votes[: self._count], np.zeros(detections.class_scores.shape)])
        live = np.arange(carried)  # the rows in which the tracks that may go on were seen last
        shown, firsts = np.unique(detections.frames, return_index=True)
        bounds = [*(carried + firsts).tolist(), len(seen)]
        for frame, first, last in zip(shown.tolist(), bounds[:-1], bounds[1:], strict=True):
            now, interval = float(timestamps[frame]), float(intervals[frame])
            longest_gaps = np.maximum(self._longest_gaps(seen, live), LONGEST_GAP_IN_SAMPLES * interval) + 1e-6
            live = live[now - seen.times[live] <= longest_gaps]
            rows = slice(first, last)
            scores = detections.class_scores[first - carried : last - carried]
            found, matched = self._assign(seen, rows, scores, live, now, interval)
            new, unseen = np.ones(last - first, dtype=np.bool_), np.ones(len(live), dtype=np.bool_)
            new[found] = unseen[matched] = False
            seen.go_on(first + found, live[matched])
            begun = first + new.nonzero()[0]
            seen.tracks[begun] = range(self._count, self._count + len(begun))
            self._count += len(begun)
            self._votes[seen.tracks[rows]] += scores
            live = np.concatenate([live[unseen], np.arange(first, last)])
        self._tracks.append(seen.tracks[carried:])
        self._live = seen.of(live)
        return self._tracks[-1]

    def tracks(self) -> Tracks:
        """The tracks of all that was added."""
        none = np.zeros(0, dtype=np.intp)
        return Tracks(np.concatenate([none, *self._tracks]), self._votes[: self._count].argmax(axis=1))

    def _longest_gaps(self, seen: _Sightings, rows: Integers) -> Floats:
        return np.where(seen.is_subject[rows], LONGEST_GAP, self._longest_gap)

    def _assign(
        self, seen: _Sightings, rows: slice, scores: Array, live: Integers, now: float, interval: float
    ) -> tuple[Integers, Integers]:
        """Detections and the tracks that they continue: positions in `rows` and in `live`, of equal length.

        scores: (D, classes), of the detections.
        """
        if not len(live):
            return live, live
        unseen = now - seen.times[live]
        heading = seen.velocities[live] * np.minimum(unseen, LONGEST_HEADING_IN_SAMPLES * interval)
        places = np.empty((2, len(live), 3), dtype=np.complex128)  # where the tracks were, and where they were heading
        places[0] = seen.points[live]
        np.add(places[0], heading[:, None], out=places[1])

        # Matrices below are (detections, tracks).
        areas, areas_before = seen.areas[rows, None], seen.areas[live]
        shared = box_intersection(seen.boxes[rows, None], places.view(np.float64)[:, None, :, :4]).max(axis=0)
        overlap = shared / (areas + areas_before - shared)
        reach = np.maximum((seen.sizes[rows, None] + seen.sizes[live]) / 2, self._smallest_reach)
        reach *= 1 + np.maximum(unseen - interval, 0) / np.maximum(self._longest_gaps(seen, live), LONGEST_GAP)
        distance = np.abs(seen.points[rows, _CENTRE, None] - places[:, None, :, _CENTRE]).min(axis=0) / reach
        area_ratio = areas / areas_before
        near = (distance <= 1) & (area_ratio <= LARGEST_AREA_RATIO) & (area_ratio >= 1 / LARGEST_AREA_RATIO)
        near |= overlap > SAME_PLACE_IOU
        classes, votes = seen.classes[rows], self._votes[seen.tracks[live]]
        # What a detection's class is to a track, relative to the track's best one; and the other way round.
        share = votes[:, classes].T / np.maximum(votes.max(axis=1), 1e-9)
        likeness = scores[:, votes.argmax(axis=1)] / np.maximum(scores.max(axis=1, keepdims=True), 1e-9)

        allowed = np.where(np.maximum(share, likeness) >= ALIKE, near, overlap > OTHER_CLASS_IOU)
        allowed &= seen.is_subject[rows, None] == seen.is_subject[live]
        cost = (1 - overlap + distance) / 2 + OTHER_CLASS_COST * (1 - share)
        from scipy.optimize import linear_sum_assignment  # the API of a fleet imports this module and has no SciPy

        found, matched = linear_sum_assignment(np.where(allowed, cost, FORBIDDEN))
        accepted = allowed[found, matched]
        return found[accepted], matched[accepted]


@dataclass
class _Sightings:
    """N detections, each with the track it belongs to and where that was heading.

    boxes: (N, 4) float64, xyxy in pixels.
    classes: (N,) intp, the most likely one of each.
    is_subject: (N,) bool.
    times: (N,) float64, s.
    tracks: (N,) intp, where known.
    velocities: (N,) complex128, px/s of the centre as x + iy, where known.
    """

    boxes: Floats
    classes: Integers
    is_subject: NDArray[np.bool_]
    times: Floats
    tracks: Integers
    velocities: Complexes

    def __post_init__(self) -> None:
        """Adds, of each box, corners and centre (N, 3) complex128, mean of its sides and area (N,) float64."""
        corners = self.boxes.view(np.complex128)
        self.points = np.concatenate([corners, corners.mean(axis=1, keepdims=True)], axis=1)
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        self.sizes, self.areas = sides.mean(axis=1), sides.prod(axis=1)

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def none(cls) -> _Sightings:
        integers = np.zeros(0, dtype=np.intp)
        nowhere = np.zeros(0, dtype=np.complex128)
        return cls(np.zeros((0, 4)), integers, np.zeros(0, np.bool_), np.zeros(0), integers, nowhere)

    def of(self, rows: Integers) -> _Sightings:
        """Some of them."""
        return _Sightings(
            self.boxes[rows],
            self.classes[rows],
            self.is_subject[rows],
            self.times[rows],
            self.tracks[rows],
            self.velocities[rows],
        )

    def followed_by(self, detections: Detections, times: Floats) -> _Sightings:
        """These and then new ones, whose tracks are not known yet."""
        return _Sightings(
            np.concatenate([self.boxes, detections.boxes]),
            np.concatenate([self.classes, detections.class_scores.argmax(axis=1)]),
            np.concatenate([self.is_subject, detections.is_subject]),
            np.concatenate([self.times, times]),
            np.concatenate([self.tracks, np.zeros(len(detections), dtype=np.intp)]),
            np.concatenate([self.velocities, np.zeros(len(detections))]),
        )

    def go_on(self, rows: Integers, previous: Integers) -> None:
        """Each of these detections continues the track of a previous one."""
        elapsed = np.maximum(self.times[rows] - self.times[previous], 1e-3)  # two frames may carry the same time
        velocities = (self.points[rows, _CENTRE] - self.points[previous, _CENTRE]) / elapsed
        self.velocities[rows] = VELOCITY_MEMORY * self.velocities[previous] + (1 - VELOCITY_MEMORY) * velocities
        self.tracks[rows] = self.tracks[previous]

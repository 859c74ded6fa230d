"""Puts the scene graph of a video together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.bundle import Thresholds
from models.predictions import PairPredictions
from models.scene_graph import Constraint, Frame, Relation, SceneObject, Triplet, Uncertainty
from models.vocabulary import GROUP_OF_PREDICATE, OBJECT_CLASSES, OBJECT_INDEX, PERSON, PREDICATES
from service.graph.detections import Detections, Integers, find_pairs
from service.graph.relations import merge_relations
from service.graph.rounding import rounded, rounded_boxes
from service.graph.tracking import Tracks, link
from service.graph.triplets import Triplets, choose_triplets

# In a longer video, what shows up in one frame only and is no surer than this is a false alarm.
SHORT_VIDEO = 4  # frames
FALSE_ALARM_SCORE = 0.4

_GROUPS = [GROUP_OF_PREDICATE[predicate] for predicate in PREDICATES]


def build_frames(
    predictions: PairPredictions,
    timestamps: Sequence[float] | NDArray[np.floating],
    *,
    width: int,
    height: int,
    thresholds: Thresholds,
    min_score: float,
    top_k: int,
    constraint: Constraint,
    duration: float | None = None,
) -> tuple[list[Frame], list[Relation]]:
    """The frames and the relations of a video's scene graph.

    predictions  of the whole video, T frames
    timestamps   (T,), presentation times in seconds, ascending
    width        and `height`: of the displayed video in pixels
    thresholds   of the bundle's manifest
    min_score    least triplet score
    top_k        most triplets per frame
    constraint   "with": best predicate per group and pair; "semi": best attention, every other predicate over 0.9;
                 "no": every predicate
    duration     of the video in seconds, where it is known; no relation lasts beyond it

    Objects have ids from 1 that are stable over the video, in order of first appearance, people before things. An
    object keeps one label, the vote of all its detections; its score in a frame is that frame's. Frames without
    detections stay empty. Scores are rounded to 4 decimals and boxes to tenths of a pixel. Triplets carry the
    uncertainty that the predictions give them; where these have none, or none that is a number, they carry none.

    Raises ValueError when there is not one timestamp per frame.
    """
    times = np.asarray(timestamps, dtype=np.float64)
    if times.shape != (len(predictions),):
        raise ValueError(f"timestamps must have shape ({len(predictions)},), one per frame, not {times.shape}")
    people, things, pairs = find_pairs(predictions, width=width, height=height, thresholds=thresholds)
    diagonal = float(np.hypot(width, height))
    person_tracks = link(people, times, diagonal=diagonal)
    thing_tracks = link(things, times, diagonal=diagonal)
    person_ids, thing_ids = _identify(people, person_tracks, things, thing_tracks, frame_count=len(times))

    pairs = pairs.only((person_ids[pairs.people] > 0) & (thing_ids[pairs.things] > 0))  # no false alarms
    triplets = choose_triplets(
        pairs,
        frames=people.frames[pairs.people],
        person_ids=person_ids[pairs.people],
        thing_ids=thing_ids[pairs.things],
        pair_scores=people.scores[pairs.people] * things.scores[pairs.things],
        predicate_score=thresholds.predicate_score,
        relation_score=thresholds.relation_score,
        min_score=min_score,
        top_k=top_k,
        constraint=constraint,
    )
    objects: list[list[SceneObject]] = [[] for _ in times]
    person_labels = np.full(len(people), OBJECT_INDEX[PERSON], dtype=np.intp)
    _add_objects(objects, people, person_ids, person_labels)
    _add_objects(objects, things, thing_ids, thing_tracks.classes[thing_tracks.of_detection])
    shown = _triplets_of_frames(triplets, len(times))
    frames = [
        Frame(index=index, timestamp=timestamp, objects=objects[index], triplets=shown[index])
        for index, timestamp in enumerate(times.tolist())
    ]
    return frames, merge_relations(triplets, times, duration)


def _identify(
    people: Detections, person_tracks: Tracks, things: Detections, thing_tracks: Tracks, *, frame_count: int
) -> tuple[Integers, Integers]:
    """Ids of all people and all things, (N,) each; 0 for false alarms."""
    beginnings: list[tuple[int, int, int]] = []  # (first frame, people before things, track)
    for kind, (detections, tracks) in enumerate(((people, person_tracks), (things, thing_tracks))):
        count = len(tracks.classes)
        first_row = np.full(count, len(detections), dtype=np.intp)
        np.minimum.at(first_row, tracks.of_detection, np.arange(len(detections)))
        lengths = np.bincount(tracks.of_detection, minlength=count)
        best = np.zeros(count)
        np.maximum.at(best, tracks.of_detection, detections.scores)
        real = (lengths > 1) | (best >= FALSE_ALARM_SCORE) | (frame_count <= SHORT_VIDEO)
        beginnings += [(int(detections.frames[first_row[track]]), kind, int(track)) for track in np.flatnonzero(real)]
    ids = [np.zeros(len(tracks.classes), dtype=np.intp) for tracks in (person_tracks, thing_tracks)]
    for identity, (_, kind, track) in enumerate(sorted(beginnings), start=1):
        ids[kind][track] = identity
    return ids[0][person_tracks.of_detection], ids[1][thing_tracks.of_detection]


def _add_objects(objects: list[list[SceneObject]], found: Detections, ids: Integers, labels: Integers) -> None:
    order = np.lexsort((ids, found.frames))
    order = order[ids[order] > 0]
    frames, identities, classes = (column[order].tolist() for column in (found.frames, ids, labels))
    scores, boxes = rounded(found.scores[order]), rounded_boxes(found.boxes[order])
    for frame, identity, label, score, box in zip(frames, identities, classes, scores, boxes, strict=True):
        objects[frame].append(SceneObject(id=identity, label=OBJECT_CLASSES[label], score=score, box=box))


def _triplets_of_frames(triplets: Triplets, frame_count: int) -> list[list[Triplet]]:
    shown: list[list[Triplet]] = [[] for _ in range(frame_count)]
    relation_scores: list[float] | list[None] = [None] * len(triplets)
    if triplets.relation_scores is not None:
        relation_scores = rounded(triplets.relation_scores)
    columns = (triplets.frames, triplets.subjects, triplets.predicates, triplets.objects)
    for frame, subject, predicate, object_, predicate_score, relation_score, score, uncertainty in zip(
        *(column.tolist() for column in columns),
        rounded(triplets.predicate_scores),
        relation_scores,
        rounded(triplets.scores),
        _uncertainties(triplets),
        strict=True,
    ):
        shown[frame].append(
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


def _uncertainties(triplets: Triplets) -> list[Uncertainty | None]:
    if triplets.uncertainties is None:
        return [None] * len(triplets)
    # A variance that was computed as a difference may lie a hair under 0.
    epistemic, aleatoric = (rounded(np.maximum(kind, 0)) for kind in triplets.uncertainties.T)
    return [
        Uncertainty(epistemic=of_model, aleatoric=of_video) if math.isfinite(of_model + of_video) else None
        for of_model, of_video in zip(epistemic, aleatoric, strict=True)
    ]

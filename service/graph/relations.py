"""Relations: triplets merged over time into intervals."""

from __future__ import annotations

import numpy as np

from models.graph.scene_graph import Relation
from models.graph.vocabulary import PREDICATES
from service.graph.detections import Floats
from service.graph.rounding import rounded
from service.graph.triplets import Triplets

# A relation may be missing in this many samples and still be one relation.
BRIDGED_SAMPLES = 1


def merge_relations(triplets: Triplets, timestamps: Floats, duration: float | None) -> list[Relation]:
    """Merges equal triplets of consecutive sampled frames, sorted by start, then best score first.

    A relation lasts to one sampling interval after the last frame that shows it, but not beyond `duration` (seconds).
    Scores are means over the frames that show it; a bridged sample adds to the time only.
    """
    if not len(triplets):
        return []
    order = np.lexsort((triplets.frames, triplets.objects, triplets.predicates, triplets.subjects))
    keys = np.stack([triplets.subjects, triplets.predicates, triplets.objects])[:, order]
    frames = triplets.frames[order]
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0) | (np.diff(frames) > 1 + BRIDGED_SAMPLES)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(order)) - 1
    counts = last - first + 1

    starts = timestamps[frames[first]]
    ends = timestamps[frames[last]] + _sampling_interval(timestamps)
    if duration is not None:
        # Containers understate their duration at times; a relation never ends before it starts.
        ends = np.maximum(np.minimum(ends, duration), starts)
    scores = rounded(np.add.reduceat(triplets.scores[order], first) / counts)
    relation_scores: list[float] | list[None] = [None] * len(first)
    if triplets.relation_scores is not None:
        relation_scores = rounded(np.add.reduceat(triplets.relation_scores[order], first, dtype=np.float64) / counts)
    relations = [
        Relation(
            subject=subject,
            predicate=PREDICATES[predicate],
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


def _sampling_interval(timestamps: Floats) -> float:
    """Median distance of sampled frames in seconds; 0 for fewer than two."""
    return float(np.median(np.diff(timestamps))) if len(timestamps) > 1 else 0.0

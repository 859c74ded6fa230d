"""Annotated relations as arrays: moments of a photograph or a video, with all their pairs."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.graph.vocabulary import Vocabulary
from models.networks.relations.layout_stage import HALF_A_SECOND, TIME_TOLERANCE
from training.data.relations.record import Box, Pair, Record

WEAK = 0.3
"""Weight of a label that nobody gave, but that follows from others, or from what the data set never asks."""
_TELLING: Final = frozenset({
    "carrying", "drinking_from", "eating", "have_it_on_the_back", "lying_on", "sitting_on", "standing_on", "wearing",
    "wiping", "writing_on",
})  # fmt: skip
"""Predicates that a data set asks of the classes they suit. One that it does not ask of a pair does not hold there.

Without this, a predicate that is only asked where it mostly holds, as carrying a backpack on the back is, would be said
of everything.
"""
_IN_FRONT: Final = "in_front_of"
_HELD: Final = frozenset({"holding", "eating", "drinking_from", "writing_on", "wiping"})
_BENEATH: Final = frozenset({"sitting_on", "lying_on", "standing_on", "have_it_on_the_back"})
"""A thing that is held is in front of its person; one that carries the person, or hangs on the back, is not."""


@dataclass(frozen=True)
class Example:
    """The P pairs of one moment.

    source: the data set.
    time: seconds from the beginning of the video; 0 for a photograph.
    annotated: (P,) bool, whether the data set speaks of the pair. The others are a subject and a thing that nobody
        paired.
    of_subject: (P,) bool, whether the pair's subject is one of the vocabulary's.
    holds: (P, R) bool, the predicates that hold.
    weights: (P, R) float32, 1 where the data set was asked, `WEAK` where another label implies this one, else 0.
    related: (P,) float32, 1 or 0, and NaN where it is not known.
    moments: (P, 3, 2, 4) float32: half a second before, now, and after; subject and object.
    seen: (P, 2) bool, whether the pair is there before and after.
    names: (P, 2) int64, indices into the list of names: subject and object.
    size: (2,) float32, width and height of the picture, zeros where they are not known.
    """

    source: str
    time: float
    annotated: NDArray[np.bool_]
    of_subject: NDArray[np.bool_]
    holds: NDArray[np.bool_]
    weights: NDArray[np.float32]
    related: NDArray[np.float32]
    moments: NDArray[np.float32]
    seen: NDArray[np.bool_]
    names: NDArray[np.int64]
    size: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.annotated)


class Names:
    """Numbers labels in the order in which they come.

    index: label to number.
    """

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def __getitem__(self, label: str) -> int:
        return self.index.setdefault(label, len(self.index))


def is_held_out(record: Record, share: float) -> bool:
    """Whether a record is for validation, by the name of its picture or video, so that no video is in both parts."""
    name = f"{record.source}/{record.video or record.image}"
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF < share


def make_sequences(
    records: Iterable[Record], vocabulary: Vocabulary, names: Names, *, without: Collection[str] = ()
) -> list[list[Example]]:
    """Returns the moments of each video, in order; a photograph is a sequence of one. Those without pairs are left out.

    Each subject of an annotated pair is also paired with each thing that nobody paired it with.

    without: labels whose pairs are left out.
    """
    sequences: list[list[Record]] = []
    for record in records:
        last = sequences[-1][0] if sequences else None
        if record.video is not None and last and (last.source, last.video) == (record.source, record.video):
            sequences[-1].append(record)
        else:
            sequences.append([record])
    made = (_of_video(sequence, vocabulary, names, frozenset(without)) for sequence in sequences)
    return [sequence for sequence in made if sequence]


def _of_video(
    records: Sequence[Record], vocabulary: Vocabulary, names: Names, without: frozenset[str]
) -> list[Example]:
    times = [record.time or 0.0 for record in records]
    examples = []
    for record in records:
        pairs = [
            pair
            for pair in _all_pairs(record, vocabulary)
            if not without & {record.labels[pair.subject], record.labels[pair.object]}
        ]
        if not pairs:
            continue
        around = [_nearest(records, times, (record.time or 0.0) + step) for step in (-HALF_A_SECOND, HALF_A_SECOND)]
        examples.append(_example(record, pairs, around, vocabulary, names))
    return examples


def _all_pairs(record: Record, vocabulary: Vocabulary) -> list[Pair]:
    """Annotated pairs, then those of every subject that an annotated pair has with the things nobody paired it with."""
    known = {(pair.subject, pair.object) for pair in record.pairs}
    subjects = sorted({pair.subject for pair in record.pairs if record.labels[pair.subject] in vocabulary.subjects})
    things = [index for index, label in enumerate(record.labels) if label not in vocabulary.subjects]
    others = [Pair(subject=one, object=other) for one in subjects for other in things if (one, other) not in known]
    return [*record.pairs, *others]


def _example(
    record: Record, pairs: list[Pair], around: list[Record | None], vocabulary: Vocabulary, names: Names
) -> Example:
    index, count = vocabulary.predicate_index, len(pairs)
    holds, weights = np.zeros((count, len(index)), bool), np.zeros((count, len(index)), np.float32)
    moments, seen = np.zeros((count, 3, 2, 4), np.float32), np.zeros((count, 2), bool)
    related = np.full(count, np.nan, np.float32)
    known = {(pair.subject, pair.object) for pair in record.pairs}
    annotated = np.array([(pair.subject, pair.object) in known for pair in pairs])
    of_subject = np.array([record.labels[pair.subject] in vocabulary.subjects for pair in pairs])
    for row, pair in enumerate(pairs):
        holds[row, [index[name] for name in pair.predicates if name in index]] = True
        weights[row, [index[name] for name in pair.asked if name in index]] = 1
        if _IN_FRONT in index and _IN_FRONT not in pair.asked:
            held, carries = (bool(which & set(pair.predicates)) for which in (_HELD, _BENEATH))
            holds[row, index[_IN_FRONT]] = held and not carries
            weights[row, index[_IN_FRONT]] = WEAK * (held != carries)
        if annotated[row] and of_subject[row]:
            unasked = [index[name] for name in _TELLING - set(pair.asked) if name in index]
            weights[row, unasked] = WEAK
        if pair.related is not None or not annotated[row]:
            related[row] = bool(pair.related)
        moments[row] = record.boxes[pair.subject], record.boxes[pair.object]
        for side, other in enumerate(around):
            boxes = None if other is None else _same_pair(record, pair, other)
            if boxes is not None:
                moments[row, 2 * side] = boxes
                seen[row, side] = True
    labels = [[names[record.labels[pair.subject]], names[record.labels[pair.object]]] for pair in pairs]
    size = (record.width, record.height) if record.width and record.height else (0.0, 0.0)
    return Example(
        source=record.source, time=record.time or 0.0, annotated=annotated, of_subject=of_subject, holds=holds,
        weights=weights, related=related, moments=moments, seen=seen, names=np.array(labels, np.int64),
        size=np.array(size, np.float32),
    )  # fmt: skip


def _nearest(records: Sequence[Record], times: list[float], time: float) -> Record | None:
    """Returns the record of a video that is nearest to a time, within the tolerance."""
    place = bisect_left(times, time)
    near = [index for index in (place - 1, place) if 0 <= index < len(times)]
    best = min(near, key=lambda index: abs(times[index] - time), default=None)
    return None if best is None or abs(times[best] - time) > TIME_TOLERANCE else records[best]


def _same_pair(record: Record, pair: Pair, other: Record) -> tuple[Box, Box] | None:
    """Returns both boxes of a pair in another record of the video: of each label, the box whose centre is nearest."""
    found = []
    for index in (pair.subject, pair.object):
        own = record.boxes[index]
        like = [box for box, label in zip(other.boxes, other.labels, strict=True) if label == record.labels[index]]
        if not like:
            return None
        found.append(
            min(like, key=lambda box: abs(box[0] + box[2] - own[0] - own[2]) + abs(box[1] + box[3] - own[1] - own[3]))
        )
    return found[0], found[1]

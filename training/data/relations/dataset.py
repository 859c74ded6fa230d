"""Records of relations as dense arrays: all pairs of each picture, with what was asked of them."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.graph.vocabulary import Vocabulary
from models.networks.relations.layout import LayoutPairs
from training.data.relations.record import Box, Pair, Record

HALF_A_SECOND = 0.5
_TOLERANCE = 0.2
"""Seconds by which a moment may miss half a second before or after."""


@dataclass(frozen=True)
class Example:
    """The pairs of one picture: P of them.

    annotated: (P,) bool, whether a data set speaks of the pair. The others are a person and a thing that nobody paired.
    holds, asked: (P, R) bool.
    related: (P,) float32, 1 or 0, and NaN where it is not known.
    moments: (P, 3, 2, 4) float32: half a second before, now, and after; subject and object.
    seen: (P, 2) bool, whether the pair is there before and after.
    names: (P, 2) int64, into the list of names.
    size: (2,) float32, zeros where it is not known.
    """

    source: str
    annotated: NDArray[np.bool_]
    holds: NDArray[np.bool_]
    asked: NDArray[np.bool_]
    related: NDArray[np.float32]
    moments: NDArray[np.float32]
    seen: NDArray[np.bool_]
    names: NDArray[np.int64]
    size: NDArray[np.float32]


@dataclass(frozen=True)
class RelationBatch:
    """Pictures side by side: B of them, P pairs each, T = 1. Fields as in `Example` and `LayoutPairs`."""

    pairs: LayoutPairs
    labels: Tensor
    annotated: Tensor
    holds: Tensor
    asked: Tensor
    related: Tensor

    def to(self, device: torch.device | str) -> RelationBatch:
        """The same on another device."""
        pairs = LayoutPairs(**{each.name: getattr(self.pairs, each.name).to(device) for each in fields(LayoutPairs)})
        rest = {each.name: getattr(self, each.name).to(device) for each in fields(self) if each.name != "pairs"}
        return RelationBatch(pairs, **rest)


class Names:
    """Numbers labels in the order in which they come."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def __getitem__(self, label: str) -> int:
        return self.index.setdefault(label, len(self.index))


def is_held_out(record: Record, share: float) -> bool:
    """Whether a record is for validation: chosen by its picture's or its video's name, so that no part leaks."""
    name = f"{record.source}/{record.video or record.image}"
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF < share


def make_examples(
    records: Iterable[Record], vocabulary: Vocabulary, names: Names, *, every_pair: bool = True
) -> list[Example]:
    """One example for each record that has pairs.

    every_pair: also pair each subject with each other thing, unrelated where nobody paired them.
    """
    examples: list[Example] = []
    video: list[Record] = []
    for record in records:
        if video and (record.video is None or (record.source, record.video) != (video[0].source, video[0].video)):
            examples += _of_video(video, vocabulary, names, every_pair)
            video = []
        if record.video is None:
            examples += _of_video([record], vocabulary, names, every_pair)
        else:
            video.append(record)
    return examples + _of_video(video, vocabulary, names, every_pair)


def _of_video(records: Sequence[Record], vocabulary: Vocabulary, names: Names, every_pair: bool) -> list[Example]:
    times = [record.time or 0.0 for record in records]
    examples = []
    for record in records:
        pairs = _all_pairs(record, vocabulary) if every_pair else list(record.pairs)
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
    holds, asked = np.zeros((count, len(index)), bool), np.zeros((count, len(index)), bool)
    moments, seen = np.zeros((count, 3, 2, 4), np.float32), np.zeros((count, 2), bool)
    related = np.full(count, np.nan, np.float32)
    annotated = np.arange(count) < len(record.pairs)
    for row, pair in enumerate(pairs):
        holds[row, [index[name] for name in pair.predicates if name in index]] = True
        asked[row, [index[name] for name in pair.asked if name in index]] = True
        if pair.related is not None or not annotated[row]:
            related[row] = bool(pair.related)
        now = record.boxes[pair.subject], record.boxes[pair.object]
        moments[row] = now
        for side, other in enumerate(around):
            boxes = None if other is None else _same_pair(record, pair, other)
            if boxes is not None:
                moments[row, 2 * side] = boxes
                seen[row, side] = True
    labels = [[names[record.labels[pair.subject]], names[record.labels[pair.object]]] for pair in pairs]
    size = (record.width or 0.0, record.height or 0.0) if record.width and record.height else (0.0, 0.0)
    return Example(
        source=record.source, annotated=annotated, holds=holds, asked=asked, related=related, moments=moments,
        seen=seen, names=np.array(labels, np.int64), size=np.array(size, np.float32),
    )  # fmt: skip


def _nearest(records: Sequence[Record], times: list[float], time: float) -> Record | None:
    """The record of a video that is nearest to a time, within the tolerance."""
    place = bisect_left(times, time)
    near = [index for index in (place - 1, place) if 0 <= index < len(times)]
    best = min(near, key=lambda index: abs(times[index] - time), default=None)
    return None if best is None or abs(times[best] - time) > _TOLERANCE else records[best]


def _same_pair(record: Record, pair: Pair, other: Record) -> tuple[Box, Box] | None:
    """Both boxes of the pair in another record of the video: of each label, the box whose centre lies nearest."""
    found = []
    for index in (pair.subject, pair.object):
        own = record.boxes[index]
        like = [box for box, label in zip(other.boxes, other.labels, strict=True) if label == record.labels[index]]
        if not like:
            return None
        found.append(min(like, key=lambda box: abs(box[0] + box[2] - own[0] - own[2]) + abs(box[1] - own[1])))
    return found[0], found[1]


def collate_examples(examples: Sequence[Example], embeddings: Tensor) -> RelationBatch:
    """Pictures as one batch, padded to the most pairs; `embeddings` (names, N) are those of the labels."""
    count, most = len(examples), max(len(each.holds) for each in examples)
    width = examples[0].holds.shape[1]

    def padded(name: str, shape: tuple[int, ...], dtype: torch.dtype, fill: float = 0) -> Tensor:
        whole = torch.full((count, 1, most, *shape), fill, dtype=dtype)
        for row, each in enumerate(examples):
            values = torch.from_numpy(getattr(each, name))
            whole[row, 0, : len(values)] = values
        return whole

    mask = torch.zeros(count, 1, most, dtype=torch.bool)
    for row, each in enumerate(examples):
        mask[row, 0, : len(each.holds)] = True
    moments = padded("moments", (3, 2, 4), torch.float32)
    # Boxes of empty slots have an area, so that nothing divides by zero.
    moments[~mask] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    labels = padded("names", (2,), torch.int64)
    size = torch.from_numpy(np.stack([each.size for each in examples]))[:, None]  # (B, 1, 2)
    now = moments[..., 1, :, :]
    pairs = LayoutPairs(
        mask=mask, subject_boxes=now[..., 0, :], object_boxes=now[..., 1, :], before=moments[..., 0, :, :],
        after=moments[..., 2, :, :], seen=padded("seen", (2,), torch.bool), subject_names=embeddings[labels[..., 0]],
        object_names=embeddings[labels[..., 1]], size=size, size_known=(size > 0).all(-1, keepdim=True),
    )  # fmt: skip
    return RelationBatch(
        pairs, labels, padded("annotated", (), torch.bool), padded("holds", (width,), torch.bool),
        padded("asked", (width,), torch.bool), padded("related", (), torch.float32, float("nan")),
    )  # fmt: skip

"""Action Genome's annotations as relations without pixels, or those of any data folder of its layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from models.graph.vocabulary import Vocabulary
from training.data.action_genome import AnnotatedFrame, Annotations, read_vocabulary
from training.data.facts import FRAME_RATE
from training.data.relations.boxes import has_area
from training.data.relations.record import Box, Pair, Record


def read_action_genome(files: Sequence[Path]) -> Iterator[Record]:
    """Records of the training parts of data folders; their frames need not be there.

    Every predicate was asked of every annotated pair. Raises DataError where an annotation is missing or malformed.
    """
    for root in files:
        vocabulary = read_vocabulary(root)
        annotations = Annotations(root, vocabulary, small_objects="keep")
        videos: dict[str, list[AnnotatedFrame]] = {}
        for key in annotations:
            if annotations.split_of(key) == "train" and isinstance(frame := annotations.frame(key), AnnotatedFrame):
                videos.setdefault(frame.path.parent.name, []).append(frame)
        for name, frames in videos.items():
            for frame in sorted(frames, key=lambda frame: frame.number):
                yield _record(name, frame, vocabulary)


def _record(video: str, frame: AnnotatedFrame, vocabulary: Vocabulary) -> Record:
    kept = [index for index, box in enumerate(frame.boxes) if has_area(box)]
    boxes: list[Box] = [tuple(map(float, box)) for box in (frame.person_box, *frame.boxes[kept])]  # type: ignore[misc]
    pairs = tuple(
        Pair(
            subject=0,
            object=1 + place,
            predicates=tuple(name for name, column in vocabulary.predicate_index.items() if held[column]),
            asked=vocabulary.predicates,
            related=True,
        )
        for place, held in enumerate(frame.predicates[kept])
    )
    labels = [vocabulary.objects[index] for index in (frame.person_label, *frame.labels[kept])]
    return Record(
        source="action_genome", video=video, time=frame.number / FRAME_RATE, width=frame.size[0], height=frame.size[1],
        boxes=tuple(boxes), labels=tuple(labels), pairs=pairs,
    )  # fmt: skip

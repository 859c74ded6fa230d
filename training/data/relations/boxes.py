"""Boxes that annotators drew again and again, joined to one box a thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from training.data.relations.record import Box, Pair, Record
from training.data.relations.words import in_order, uncontradicted

SAME_BOX = 0.7
"""IoU from which on two boxes of one class are one thing, where a set draws a box for every pair."""


@dataclass
class Scene:
    """The things of one picture, collected pair by pair."""

    same: float = SAME_BOX
    boxes: list[Box] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    _pairs: dict[tuple[int, int], tuple[set[str], set[str], bool | None]] = field(default_factory=dict)

    def find(self, box: Sequence[float], label: str) -> int:
        """The index of the thing with this box, added where it is new."""
        corners = _corners(box)
        for index, (known, name) in enumerate(zip(self.boxes, self.labels, strict=True)):
            if name == label and iou(known, corners) >= self.same:
                return index
        self.boxes.append(corners)
        self.labels.append(label)
        return len(self.boxes) - 1

    def add(
        self, subject: int, thing: int, predicates: Sequence[str], asked: Sequence[str], related: bool | None
    ) -> None:
        """Adds what is known of a pair to what is known of it already."""
        if subject == thing:
            return
        holds, was_asked, before = self._pairs.get((subject, thing), (set(), set(), None))
        known = before if related is None else bool(related or before)
        self._pairs[subject, thing] = (holds | set(predicates), was_asked | set(asked), known)

    def pairs(self) -> tuple[Pair, ...]:
        """In the order in which they came. A pair that was said to touch and not to touch touches."""
        return tuple(
            Pair(
                subject=subject,
                object=thing,
                predicates=uncontradicted(holds),
                asked=in_order(asked),
                related=related,
            )
            for (subject, thing), (holds, asked, related) in self._pairs.items()
        )

    def record(self, **rest: object) -> Record:
        """The picture's record; `rest` are its other fields."""
        return Record(boxes=tuple(self.boxes), labels=tuple(self.labels), pairs=self.pairs(), **rest)


def has_area(box: Sequence[float]) -> bool:
    """Whether a corner box encloses anything."""
    return box[2] > box[0] and box[3] > box[1]


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU of two corner boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (areas - shared) if areas > shared else 0.0


def _corners(box: Sequence[float]) -> Box:
    left, top, right, bottom = map(float, box)
    return left, top, right, bottom

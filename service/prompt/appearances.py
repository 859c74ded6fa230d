"""Objects that appear in a video, and their numbers among those of one label."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from models.graph.scene_graph import Frame


@dataclass
class Appearances:
    """Objects that appear in a video: all that a prompt needs of its frames, gathered frame by frame.

    labels: by id.
    first: position of the first frame that shows it, by id.
    last: position of the last frame that shows it, by id.
    scores: sum over all frames, by label.
    frame_count: frames so far.
    """

    labels: dict[int, str] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    frame_count: int = 0

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> Appearances:
        """Gathers the objects of all frames of a video."""
        appearances = cls()
        for frame in frames:
            appearances.add(frame)
        return appearances

    def add(self, frame: Frame) -> None:
        """Takes the next frame."""
        for thing in frame.objects:
            self.labels[thing.id] = thing.label
            self.first.setdefault(thing.id, self.frame_count)
            self.last[thing.id] = self.frame_count
            self.scores[thing.label] = self.scores.get(thing.label, 0.0) + thing.score
        self.frame_count += 1


@dataclass(frozen=True)
class Entity:
    """One subject or thing of a video: the `number`th of its label, from 1."""

    label: str
    number: int


def entities_of(appearances: Appearances) -> dict[int, Entity]:
    """The entity of every id.

    Two ids of one label that are never there at the same time are one entity: most likely a thing that was lost from
    sight.
    """
    first, last = appearances.first, appearances.last
    entities: dict[int, Entity] = {}
    taken_until: dict[str, list[int]] = {}
    for identity in sorted(first, key=lambda identity: (first[identity], identity)):
        label = appearances.labels[identity]
        ends = taken_until.setdefault(label, [])
        number = next((number for number, end in enumerate(ends) if end < first[identity]), len(ends))
        ends[number : number + 1] = [last[identity]]
        entities[identity] = Entity(label, number + 1)
    return entities

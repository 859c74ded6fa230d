"""Objects that appear in a video, events worth telling, and the moments that show most of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from models.graph.scene_graph import Frame, Relation, SceneGraph
from models.graph.vocabulary import PredicateGroup, Vocabulary

MOST_EVENTS = 1000
"""No more are looked at, so that an hour of video costs little more than a minute."""
_MOST_SHOWN_EVENTS = 100  # the most telling ones, of which a few frames can show some
_BRIDGED_SECONDS = 1.0  # somebody who lets go for so long, or whose hand is hidden, has not stopped
_COVERED = 0.5  # share of an event's time in which another holds, from which on it goes without saying
_BELIEVED = 0.5  # share of the best score of all events that one needs to be told
_CLOSE_BEHIND = 0.5  # share of the best score that another of the same group and time needs


@dataclass
class Appearances:
    """Objects that appear in a video: all that a prompt needs of its frames, gathered frame by frame.

    labels: by id.
    first: position of the first frame that shows it, by id.
    last: position of the last frame that shows it, by id.
    seen: seconds of the first and of the last frame that show it, by id.
    scores: sum over all frames, by label.
    frame_count: frames so far.
    sampled: seconds of the first and of the last frame so far.
    """

    labels: dict[int, str] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    seen: dict[int, tuple[float, float]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    frame_count: int = 0
    sampled: tuple[float, float] = (0.0, 0.0)

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
            self.seen[thing.id] = self.seen.get(thing.id, (frame.timestamp,))[0], frame.timestamp
            self.scores[thing.label] = self.scores.get(thing.label, 0.0) + thing.score
        self.sampled = self.sampled[0] if self.frame_count else frame.timestamp, frame.timestamp
        self.frame_count += 1

    @property
    def interval(self) -> float:
        """Mean seconds from one frame to the next, 0 where there are fewer than two."""
        return (self.sampled[1] - self.sampled[0]) / max(1, self.frame_count - 1)


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


def spans_of(appearances: Appearances, entities: Mapping[int, Entity]) -> dict[Entity, list[tuple[float, float]]]:
    """The times at which each entity is there, from and to in seconds, in order. Short gaps are bridged.

    An entity is there for one interval of frames after the last frame that shows it.
    """
    spans: dict[Entity, list[tuple[float, float]]] = {}
    for identity, (start, last) in sorted(appearances.seen.items(), key=lambda seen: seen[1]):
        known = spans.setdefault(entities[identity], [])
        if known and start - known[-1][1] <= _BRIDGED_SECONDS:
            start, _ = known.pop()
        known.append((start, last + appearances.interval))
    return spans


@dataclass(frozen=True)
class Event:
    """One predicate between one subject and one thing over one interval of seconds; scores are means over it."""

    subject: Entity
    thing: Entity
    predicate: str
    group: PredicateGroup
    start: float
    end: float
    score: float
    relation_score: float | None

    @property
    def relevance(self) -> float:
        """The rank of an event: how much its pair and its group matter, how sure it is and how long it lasts."""
        matters = 1.0 if self.relation_score is None else self.relation_score
        return matters * self.group.weight * self.score * (self.end - self.start)

    @property
    def says_little(self) -> bool:
        """Whether it is told only where there is nothing else."""
        return self.predicate in self.group.says_little


def events_of(relations: Iterable[Relation], entities: Mapping[int, Entity], vocabulary: Vocabulary) -> list[Event]:
    """The events of a graph that are worth telling, the most telling first.

    What says little ("does not look at") is told only where there is nothing else.
    """
    merged = _merged(relations, entities, vocabulary)
    pairs: dict[tuple[Entity, Entity], list[Event]] = {}
    for event in heapq.nlargest(MOST_EVENTS, merged, key=_rank):
        pairs.setdefault((event.subject, event.thing), []).append(event)
    told = list(chain.from_iterable(_worth_telling(pair) for pair in pairs.values()))
    told = [event for event in told if not event.says_little] or told
    surest = max((event.score for event in told), default=0.0)
    return sorted((event for event in told if event.score >= _BELIEVED * surest), key=_rank, reverse=True)


def key_moments(graph: SceneGraph, count: int) -> list[float]:
    """At most `count` times of sampled frames, in seconds, in order: those of the most telling frames."""
    moments = [frame.timestamp for frame in graph.frames]
    appearances = Appearances.of(graph.frames)
    chosen = telling_frames(appearances, graph.relations, graph.vocabulary, moments, count)
    return sorted(moments[index] for index in chosen)


def telling_frames(
    appearances: Appearances,
    relations: Iterable[Relation],
    vocabulary: Vocabulary,
    moments: Sequence[float],
    count: int,
) -> list[int]:
    """Indices of at most `count` sampled frames in which the most telling events happen, the most telling first.

    Each is chosen for what the ones before it do not show; there are fewer when all is shown. Of equally good frames
    the one in the middle is taken, where the event is under way.

    moments: times of all sampled frames, in seconds.
    """
    events = events_of(relations, entities_of(appearances), vocabulary)[:_MOST_SHOWN_EVENTS]
    times = np.asarray(moments)
    shows = np.array([(event.start <= times) & (times < event.end) for event in events])
    relevance = np.array([event.relevance for event in events])
    missing = np.arange(len(events))
    chosen: list[int] = []
    while missing.size and times.size and len(chosen) < count:
        gains = (relevance[missing, None] * shows[missing]).sum(axis=0)
        if gains.max() <= 0.0:
            break
        best = np.flatnonzero(gains == gains.max())
        chosen.append(int(best[len(best) // 2]))
        missing = missing[~shows[missing, chosen[-1]]]
    return chosen


def _rank(event: Event) -> tuple[bool, float, float]:
    return (not event.says_little, event.relevance, event.score)


def _merged(relations: Iterable[Relation], entities: Mapping[int, Entity], vocabulary: Vocabulary) -> list[Event]:
    """One event for all relations that say the same and follow on each other."""
    merged: dict[tuple[Entity, Entity, str], list[Event]] = {}
    for relation in sorted(relations, key=lambda relation: relation.start):
        group = vocabulary.group_of(relation.predicate)
        subject, thing = relation.subject, relation.object
        if group.runs_from_object:
            subject, thing = thing, subject
        event = Event(
            entities[subject],
            entities[thing],
            relation.predicate,
            group,
            relation.start,
            relation.end,
            relation.score,
            relation.relation_score,
        )
        same = merged.setdefault((event.subject, event.thing, event.predicate), [])
        if same and event.start - same[-1].end <= _BRIDGED_SECONDS:
            same[-1] = _joined(same[-1], event)
        else:
            same.append(event)
    return list(chain.from_iterable(merged.values()))


def _joined(one: Event, other: Event) -> Event:
    """Both as one event; each counts for as long as it lasts."""
    lengths = one.end - one.start, other.end - other.start
    share = lengths[0] / sum(lengths) if sum(lengths) else 0.5
    relation_score = None
    if one.relation_score is not None and other.relation_score is not None:
        relation_score = share * one.relation_score + (1 - share) * other.relation_score
    return replace(
        one,
        end=max(one.end, other.end),
        score=share * one.score + (1 - share) * other.score,
        relation_score=relation_score,
    )


def _worth_telling(pair: Sequence[Event]) -> list[Event]:
    """Of the events of one subject and one thing, those that are believed and do not go without saying."""
    believed = [event for event in pair if not _is_doubted(event, pair)]

    def goes_without_saying(event: Event) -> bool:
        stronger = [other for other in believed if other.group.name in event.group.overshadowed_by]
        return _is_covered(event, [other for other in stronger if not other.says_little])

    return [event for event in believed if not goes_without_saying(event)]


def _is_doubted(event: Event, pair: Sequence[Event]) -> bool:
    """Whether the model is surer of others of its group at the same time."""
    of_group = [other for other in pair if other.group.name == event.group.name]
    stronger = [other for other in of_group if other.score * _CLOSE_BEHIND > event.score]
    # Where "does not touch" scores best, a touch below it is not meant.
    denials = [other for other in of_group if other.says_little and other.score > event.score]
    return _is_covered(event, stronger) or _is_covered(event, denials)


def _is_covered(event: Event, others: Sequence[Event]) -> bool:
    if event.end == event.start:
        return any(other.start <= event.start <= other.end for other in others)
    shared = sum(_shared(event, other) for other in others)
    return shared > 0 and shared >= _COVERED * (event.end - event.start)


def _shared(one: Event, other: Event) -> float:
    return max(0.0, min(one.end, other.end) - max(one.start, other.start))

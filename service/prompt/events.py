"""Events: the relations of a graph merged over time, without what goes without saying, the most telling first."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from models.graph.scene_graph import Relation
from models.graph.vocabulary import GROUP_OF_PREDICATE, GroupName, runs_from_object
from service.prompt.appearances import Entity

MOST_EVENTS = 1000
"""No more are looked at, so that an hour of video costs little more than a minute."""
SAYS_LITTLE = frozenset({"not_looking_at", "unsure", "not_contacting"})
# What the person does tells more than what they look at, and that more than what stands where.
_WEIGHT: dict[GroupName, float] = {"contacting": 1.0, "attention": 0.6, "spatial": 0.4}
_BRIDGED_SECONDS = 1.0  # a person who lets go for so long, or whose hand is hidden, has not stopped
_COVERED = 0.5  # share of an event's time in which another holds, from which on it goes without saying
_BELIEVED = 0.5  # share of the best score of all events that one needs to be told
_CLOSE_BEHIND = 0.5  # share of the best score that another of the same group and time needs


@dataclass(frozen=True)
class Event:
    """One predicate between one person and one thing, over one interval of seconds; scores are means over it."""

    person: Entity
    thing: Entity
    predicate: str
    start: float
    end: float
    score: float
    relation_score: float | None

    @property
    def group(self) -> GroupName:
        """The group of the predicate."""
        return GROUP_OF_PREDICATE[self.predicate]

    @property
    def relevance(self) -> float:
        """What events are ranked by: how much the pair matters, how sure the model is, how long it lasts."""
        matters = 1.0 if self.relation_score is None else self.relation_score
        return matters * _WEIGHT[self.group] * self.score * (self.end - self.start)


def events_of(relations: Iterable[Relation], entities: Mapping[int, Entity]) -> list[Event]:
    """The events of a graph that are worth telling, the most telling first.

    What says little ("does not look at") is told only where there is nothing else.
    """
    merged = _merged(relations, entities)
    pairs: dict[tuple[Entity, Entity], list[Event]] = {}
    for event in heapq.nlargest(MOST_EVENTS, merged, key=_rank):
        pairs.setdefault((event.person, event.thing), []).append(event)
    told = list(chain.from_iterable(_worth_telling(pair) for pair in pairs.values()))
    told = [event for event in told if event.predicate not in SAYS_LITTLE] or told
    surest = max((event.score for event in told), default=0.0)
    return sorted((event for event in told if event.score >= _BELIEVED * surest), key=_rank, reverse=True)


def _rank(event: Event) -> tuple[bool, float, float]:
    return (event.predicate not in SAYS_LITTLE, event.relevance, event.score)


def _merged(relations: Iterable[Relation], entities: Mapping[int, Entity]) -> list[Event]:
    """One event for all relations that say the same and follow on each other."""
    merged: dict[tuple[Entity, Entity, str], list[Event]] = {}
    for relation in sorted(relations, key=lambda relation: relation.start):
        person, thing = relation.subject, relation.object
        if runs_from_object(relation.predicate):
            person, thing = thing, person
        event = Event(
            entities[person],
            entities[thing],
            relation.predicate,
            relation.start,
            relation.end,
            relation.score,
            relation.relation_score,
        )
        same = merged.setdefault((event.person, event.thing, event.predicate), [])
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
    """Of the events of one person and one thing, those that are believed and do not go without saying."""
    believed = [event for event in pair if not _is_doubted(event, pair)]
    contacts = [event for event in believed if event.group == "contacting" and event.predicate not in SAYS_LITTLE]
    return [event for event in believed if event.group != "spatial" or not _is_covered(event, contacts)]


def _is_doubted(event: Event, pair: Sequence[Event]) -> bool:
    """Whether others of its group, at the same time, are what the model rather says."""
    of_group = [other for other in pair if other.group == event.group]
    stronger = [other for other in of_group if other.score * _CLOSE_BEHIND > event.score]
    # Where "does not touch" scores best, a touch below it is not meant.
    denials = [other for other in of_group if other.predicate in SAYS_LITTLE and other.score > event.score]
    return _is_covered(event, stronger) or _is_covered(event, denials)


def _is_covered(event: Event, others: Sequence[Event]) -> bool:
    if event.end == event.start:
        return any(other.start <= event.start <= other.end for other in others)
    shared = sum(_shared(event, other) for other in others)
    return shared > 0 and shared >= _COVERED * (event.end - event.start)


def _shared(one: Event, other: Event) -> float:
    return max(0.0, min(one.end, other.end) - max(one.start, other.start))

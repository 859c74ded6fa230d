"""The moments of a video that show most of what its graph tells."""

from __future__ import annotations

from models.graph.scene_graph import SceneGraph
from service.prompt.appearances import Appearances, entities_of
from service.prompt.events import events_of

_MOST_EVENTS = 100  # the most telling ones, of which frames can show a few


def key_moments(graph: SceneGraph, count: int) -> list[float]:
    """At most `count` times of sampled frames, in seconds, in order: those in which the most telling events happen.

    Each is chosen for what the ones before it do not show; there are fewer when all is shown. Of equally good frames
    the one in the middle is taken, where what happens is under way.
    """
    missing = events_of(graph.relations, entities_of(Appearances.of(graph.frames)))[:_MOST_EVENTS]
    moments = [frame.timestamp for frame in graph.frames]
    chosen: set[float] = set()
    while missing and moments and len(chosen) < count:
        gains = [sum(event.relevance for event in missing if event.start <= moment < event.end) for moment in moments]
        best = max(gains)
        if best <= 0.0:
            break
        equal = [moment for moment, gain in zip(moments, gains, strict=True) if gain == best]
        moment = equal[len(equal) // 2]
        chosen.add(moment)
        missing = [event for event in missing if not event.start <= moment < event.end]
    return sorted(chosen)

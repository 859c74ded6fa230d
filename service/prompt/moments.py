"""The moments of a video that show most of what its graph tells."""

from __future__ import annotations

from models.scene_graph import SceneGraph
from service.prompt.sentences import relevance


def key_moments(graph: SceneGraph, count: int) -> list[float]:
    """At most `count` times of sampled frames, in seconds, in order: those in which the most telling relations hold.

    Each is chosen for what the ones before it do not show; there are fewer when all is shown. Of equally good frames
    the one in the middle is taken, where what happens is under way.
    """
    missing = list(graph.relations)
    chosen: set[float] = set()
    while missing and len(chosen) < count:
        gains = {
            frame.timestamp: sum(
                relevance(relation)[0] for relation in missing if relation.start <= frame.timestamp < relation.end
            )
            for frame in graph.frames
        }
        best = max(gains.values(), default=0.0)
        if best <= 0.0:
            break
        equal = [moment for moment, gain in gains.items() if gain == best]
        moment = equal[len(equal) // 2]
        chosen.add(moment)
        missing = [relation for relation in missing if not relation.start <= moment < relation.end]
    return sorted(chosen)

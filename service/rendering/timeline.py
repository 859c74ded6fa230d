"""Boxes and triplets of any moment of a video, also between the sampled frames of its graph."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from models.graph.scene_graph import Box, Frame, SceneGraph, SceneObject, Triplet

_ROUNDING = 0.001
"""Containers round times, so a frame of the video counts as the sampled one within a millisecond."""


@dataclass(frozen=True)
class Moment:
    """Objects and triplets at one time. The scores are those of the last sampled frame."""

    objects: list[SceneObject]
    triplets: list[Triplet]


class Timeline:
    """The moments of one graph.

    Between two sampled frames the box of an object that both of them show moves evenly from one to the other.
    Everything else holds until the next sampled frame. Before the first one there is nothing; the last one holds for
    one sampling interval.
    """

    def __init__(self, graph: SceneGraph) -> None:
        self._frames = graph.frames
        self._times = [frame.timestamp for frame in graph.frames]
        self._interval = 1.0 / graph.options.fps

    def at(self, time: float) -> Moment:
        """The moment at `time`, in seconds."""
        index = bisect_right(self._times, time + _ROUNDING) - 1
        if index < 0:
            return Moment([], [])
        frame = self._frames[index]
        if index + 1 < len(self._frames):
            return Moment(_moved(frame, self._frames[index + 1], time), frame.triplets)
        if time > frame.timestamp + self._interval - _ROUNDING:
            return Moment([], [])
        return Moment(frame.objects, frame.triplets)


def _moved(frame: Frame, following: Frame, time: float) -> list[SceneObject]:
    share = max(0.0, (time - frame.timestamp) / (following.timestamp - frame.timestamp))
    ends = {thing.id: thing.box for thing in following.objects}
    return [
        thing.model_copy(update={"box": _between(thing.box, ends.get(thing.id, thing.box), share)})
        for thing in frame.objects
    ]


def _between(start: Box, end: Box, share: float) -> Box:
    x1, y1, x2, y2 = (a + share * (b - a) for a, b in zip(start, end, strict=True))
    return x1, y1, x2, y2

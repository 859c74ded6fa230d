"""The turns of the videos that share a model, and their clips on the way through its stages."""

from __future__ import annotations

import contextvars
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.engines import Tensors
from service.tracing import JobTrace


@dataclass(eq=False)
class Turn:
    """The place of one video among all that share a model.

    The video with the least `due` is served first. `due` grows with every frame served, and grows faster for videos
    that are expected to be long. So short videos end first, and no video ever stands still.

    due: orders the turns.
    expected: frames that the video is expected to have, at least 1.
    under_way: its clips that wait at a stage or run.
    trace: takes the spans of its batches.
    context: of who opened the turn. What the model's threads log about the video carries it.
    """

    due: float
    expected: int
    under_way: set[Clip] = field(default_factory=set)
    trace: JobTrace = field(default_factory=JobTrace)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def serve(self, frames: int) -> None:
        """Counts frames that go into a batch."""
        self.due += frames * float(max(1, self.expected))


@dataclass(eq=False)
class Clip:
    """Consecutive frames of one video; at a stage of span `video`, all of them.

    turn: of the video.
    tensors: what a later stage or the caller still needs, by name, (T, …) each.
    stage: number of the stage that the clip waits for.
    done: gets the tensors after the last stage, or the error.
    arrived: when the clip came to its stage, by `time.monotonic`.
    taken: frames that are already in batches of that stage. Only a stage of span `frame` takes some and leaves others.
    parts: what the stage made of those frames, each with the number of its first frame.
    """

    turn: Turn
    tensors: Tensors
    stage: int = 0
    done: Future[Tensors] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    taken: int = 0
    parts: list[tuple[int, Tensors]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def enter(self, stage: int, tensors: Tensors) -> None:
        """Moves on to a stage with these tensors."""
        self.stage, self.tensors = stage, tensors
        self.arrived, self.taken, self.parts = time.monotonic(), 0, []


@dataclass(frozen=True)
class Share:
    """The frames of a clip, from `first` up to but not including `end`, that are in one batch."""

    clip: Clip
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def of(self, name: str) -> NDArray[np.generic]:
        """These frames of a tensor, (T, …)."""
        return self.clip.tensors[name][self.first : self.end]

    def complete(self, outputs: Tensors) -> Tensors | None:
        """Adds what the stage made of these frames. Returns the outputs of the whole clip once all are there."""
        if len(self) == len(self.clip):
            return outputs
        self.clip.parts.append((self.first, outputs))
        if sum(len(next(iter(part.values()))) for _, part in self.clip.parts) < len(self.clip):
            return None
        parts = [part for _, part in sorted(self.clip.parts, key=lambda part: part[0])]
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}

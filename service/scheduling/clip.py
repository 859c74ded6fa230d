"""A clip on its way through the stages of a model."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.engines import Tensors

if TYPE_CHECKING:
    from service.scheduling.job import EngineJob


@dataclass(eq=False)
class Clip:
    """Consecutive frames of one job, or a whole video at the stages that must see one.

    job      whose it is
    tensors  by name, (T, …) each: what stages that have run gave and somebody still needs
    done     is given the tensors when the last stage has run, or the error
    """

    job: EngineJob
    tensors: Tensors
    done: Future[Tensors] = field(default_factory=Future)
    stage: int = 0
    """Which one it waits for."""
    arrived: float = field(default_factory=time.monotonic)
    """When it came there."""
    taken: int = 0
    """Frames that are in batches of that stage already, where it takes frames one by one."""
    parts: list[tuple[int, Tensors]] = field(default_factory=list)
    """What came of them, with the number of the first frame of each part."""

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def enter(self, stage: int, tensors: Tensors) -> None:
        """Goes on to a stage with what it has now."""
        self.stage, self.tensors = stage, tensors
        self.arrived, self.taken, self.parts = time.monotonic(), 0, []

    def fail(self, error: Exception) -> None:
        """Gives the error to whoever waits, unless the clip was given up."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True)
class Share:
    """What one clip has in a batch: its frames from `first` up to and without `end`."""

    clip: Clip
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def of(self, name: str) -> NDArray[np.generic]:
        """These frames of a tensor, (T, …)."""
        return self.clip.tensors[name][self.first : self.end]

    def complete(self, outputs: Tensors) -> Tensors | None:
        """Takes what the stage gave for these frames; the outputs of the whole clip once all have come, else None."""
        if len(self) == len(self.clip):
            return outputs
        self.clip.parts.append((self.first, outputs))
        if sum(len(next(iter(part.values()))) for _, part in self.clip.parts) < len(self.clip):
            return None
        parts = [part for _, part in sorted(self.clip.parts, key=lambda part: part[0])]
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}

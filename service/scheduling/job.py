"""One video's way through an engine."""

from __future__ import annotations

import contextvars
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from models.engines import Tensors
from models.graph.bundle import FRAMES, TIMESTAMPS
from service.scheduling.clip import Clip
from service.scheduling.errors import JobCancelled
from service.tracing import JobTrace

if TYPE_CHECKING:
    from service.scheduling.engine import Engine


@dataclass(frozen=True)
class TimedClip:
    """Consecutive sampled frames of a video.

    timestamps  (T,) float64, presentation times in seconds
    frames      (T, height, width, 3) uint8 RGB, of the model's frame size; T at most its clip length
    """

    timestamps: NDArray[np.float64]
    frames: NDArray[np.uint8]


class EngineJob:
    """The clips of one video; a context manager that gives up, when left, what is not done. For one thread, but that
    `cancel` may be called from any.

    `due` orders jobs: the least is served first. It grows with every frame served, and the faster the longer the video
    is expected to be, so that of all jobs the short ones end first and yet none ever stands still.
    """

    def __init__(self, engine: Engine, expected: int, due: float) -> None:
        self._engine = engine
        self._stride = float(max(1, expected))
        self.due = due
        self.under_way: set[Clip] = set()
        self.trace = JobTrace()
        self.context = contextvars.copy_context()
        """Of who opened the job: what the engine's threads log about it is the job's."""
        self.waited = 0.0
        """Seconds that the job has waited for the engine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.leave(self)

    def cancel(self) -> None:
        """Takes all clips out of the queues; whoever waits for one is told JobCancelled."""
        self._engine.leave(self)

    def serve(self, frames: int) -> None:
        """Notes that so many frames went into a batch."""
        self.due += frames * self._stride

    def run(self, clips: Iterable[TimedClip]) -> Iterator[tuple[NDArray[np.float64], Tensors]]:
        """What the stages of single clips make of each, in order: its timestamps and tensors of (T, …), never the
        frames themselves.

        Takes the next clip only when there is room for it, which is what holds back the decoder. Raises ClipFailed when
        a stage fails on one, EngineDied, JobCancelled.
        """
        waiting: deque[tuple[NDArray[np.float64], Clip]] = deque()
        for timed in clips:
            tensors: Tensors = {FRAMES: timed.frames, TIMESTAMPS: timed.timestamps.astype(np.float32)}
            waiting.append((timed.timestamps, self._submit(Clip(self, tensors))))
            while len(waiting) >= self._engine.depth or (waiting and waiting[0][1].done.done()):
                times, clip = waiting.popleft()
                yield times, self._result(clip)
        for times, clip in waiting:
            yield times, self._result(clip)

    def finish(self, clips: list[Tensors]) -> Tensors:
        """Joins what `run` gave for all clips along time and runs the stages that must see the whole video.

        The clips are emptied while they are joined, so that no tensor lies in memory twice. Returns the arrays of
        `models.graph.predictions.PairPredictions` by name, (T of all clips, …) each. Raises as `run`.
        """
        whole = {name: np.concatenate([clip.pop(name) for clip in clips]) for name in list(clips[0])}
        stage = self._engine.first_video_stage
        return whole if stage is None else self._result(self._submit(Clip(self, whole, stage=stage)))

    def _submit(self, clip: Clip) -> Clip:
        self._engine.submit(clip)
        return clip

    def _result(self, clip: Clip) -> Tensors:
        since = time.perf_counter()
        try:
            return clip.done.result()
        except CancelledError:
            raise JobCancelled("the job was cancelled") from None
        finally:
            self.waited += time.perf_counter() - since

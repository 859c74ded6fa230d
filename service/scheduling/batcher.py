"""The turns of the videos that share a model, their clips, and which of the clips that wait at a stage run together."""

from __future__ import annotations

import contextvars
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.engines import Tensors
from models.graph.bundle import FRAMES, Stage
from service.tracing import JobTrace

# A batch of a stage of span `frame` may always hold so many frames, unless they are large. Even on a CPU, which gains
# nothing from batches of clips, a detector takes two thirds of the time per frame for 16 frames of 160x128 that it
# takes for one. 16 frames of 512x384 would take gigabytes and gain nothing.
FEWEST_FRAMES = 16
_FEWEST_PIXELS = 400_000


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


def largest_batch(stage: Stage, max_batch: int) -> int:
    """The most clips, single frames or videos in a batch of this stage, where `max_batch` is the most clips."""
    return {"video": 1, "clip": max_batch, "frame": max(max_batch, _fewest_frames(stage))}[stage.span]


def _fewest_frames(stage: Stage) -> int:
    for tensor in stage.inputs:
        if tensor.name == FRAMES:
            height, width = tensor.shape[2:4]
            assert isinstance(height, int)
            assert isinstance(width, int)
            return max(1, min(FEWEST_FRAMES, _FEWEST_PIXELS // (height * width)))
    return FEWEST_FRAMES


class Batcher:
    """Clips that wait at one stage. Not thread-safe: the scheduler calls it under its lock.

    A batch holds whole clips of one length, because padding time would change what a network sees. At a stage of span
    `frame` it holds single frames of any clips, at one of span `video` one video.
    """

    def __init__(self, stage: Stage, *, max_batch: int, job_share: int, max_wait: float) -> None:
        """
        stage: the stage that the clips wait for.
        max_batch: most clips in a batch; see `largest_batch` for the other spans.
        job_share: most clips of one video in a batch.
        max_wait: seconds that a batch which is not full waits for more clips.
        """
        self.stage = stage
        self._max_batch = largest_batch(stage, max_batch)
        self._job_share = job_share
        self._max_wait = max_wait
        self._waiting: dict[Turn, deque[Clip]] = {}

    def add(self, clip: Clip) -> None:
        """Lets a clip wait here, behind the other clips of its video."""
        self._waiting.setdefault(clip.turn, deque()).append(clip)

    def drop(self, turn: Turn) -> None:
        """Removes the clips of a video."""
        self._waiting.pop(turn, None)

    def seconds_until_ready(self, open_turns: int) -> float | None:
        """Returns the seconds to wait before taking a batch: 0 for not at all, None where nothing waits.

        A batch is ready when it is full, when each of the open turns has a clip here, or when one clip has waited for
        `max_wait`.
        """
        if not self._waiting:
            return None
        if len(self._waiting) >= open_turns or self._size() >= self._max_batch:
            return 0.0
        oldest = min(clips[0].arrived for clips in self._waiting.values())
        return max(0.0, oldest + self._max_wait - time.monotonic())

    def take(self) -> list[Share]:
        """Takes the next batch, from the videos that are due first. It is not empty where anything waits."""
        batch: list[Share] = []
        room, length = self._max_batch, 0
        for turn in sorted(self._waiting, key=lambda turn: turn.due):
            clips = self._waiting[turn]
            for clip in [clips[index] for index in range(min(self._job_share, len(clips)))]:
                if room == 0 or (self.stage.span != "frame" and length not in (0, len(clip))):
                    break
                if self.stage.span == "frame":
                    share = Share(clip, clip.taken, min(len(clip), clip.taken + room))
                    room -= len(share)
                else:
                    share = Share(clip, 0, len(clip))
                    room, length = room - 1, len(clip)
                clip.taken = share.end
                batch.append(share)
                turn.serve(len(share))
            while clips and clips[0].taken == len(clips[0]):
                clips.popleft()
            if not clips:
                del self._waiting[turn]
        return batch

    def _size(self) -> int:
        """The clips or frames that one batch could take now, within each video's `job_share`."""
        size = 0
        for clips in self._waiting.values():
            for index in range(min(self._job_share, len(clips))):
                size += len(clips[index]) - clips[index].taken if self.stage.span == "frame" else 1
        return size


@dataclass(frozen=True)
class Batch:
    """One run of one stage.

    stage: name of the stage.
    size: clips, or frames at a stage of span `frame`.
    frames: frames in all of them.
    waited: seconds that the first of them waited for the run.
    seconds: duration of the run.
    """

    stage: str
    size: int
    frames: int
    waited: float
    seconds: float

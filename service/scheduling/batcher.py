"""Batches: which of the clips that wait at a stage run together."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from models.graph.bundle import Stage
from service.scheduling.turns import Clip, Share, Turn

# A batch of a stage of span `frame` may always hold so many frames. Even on a CPU, which gains nothing from batches of
# clips, a detector takes about two thirds of the time per frame for 16 frames of 160x128 that it takes for one.
FEWEST_FRAMES = 16


def largest_batch(stage: Stage, max_batch: int) -> int:
    """The most clips, single frames or videos in a batch of this stage, where `max_batch` is the most clips."""
    return {"video": 1, "clip": max_batch, "frame": max(max_batch, FEWEST_FRAMES)}[stage.span]


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
        """How long to wait before taking a batch: 0 for not at all, None where nothing waits.

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

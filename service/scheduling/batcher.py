"""The clips that wait at one stage, and which of them make up the next batch."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from models.graph.bundle import Stage
from service.scheduling.clip import Clip, Share

if TYPE_CHECKING:
    from service.scheduling.job import EngineJob


FEWEST_FRAMES = 16
"""So many single frames may always share a batch: even on a CPU, which gains nothing from batches of clips, a detector
takes about two thirds of the time for each of 16 that it takes for one alone (frames of 160x128)."""


def largest_batch(stage: Stage, max_batch: int) -> int:
    """Most clips, or single frames, or videos, of one batch, where `max_batch` is the most clips."""
    return {"video": 1, "clip": max_batch, "frame": max(max_batch, FEWEST_FRAMES)}[stage.span]


class Batcher:
    """What waits at one stage. Not safe for threads: the engine calls it under its lock.

    A batch holds whole clips of one length, because time is no axis that could be padded without changing what a
    network sees; at a stage of span `frame` it holds single frames, of any clips; at one of span `video` one video.
    """

    def __init__(self, stage: Stage, *, max_batch: int, job_share: int, max_wait: float) -> None:
        """`max_batch`: most clips; `job_share`: most clips of one job among them; `max_wait`: seconds for which a batch
        that is not full waits for more. For a stage of span `frame` see `largest_batch`.
        """
        self.stage = stage
        self._max_batch = largest_batch(stage, max_batch)
        self._job_share = job_share
        self._max_wait = max_wait
        self._waiting: dict[EngineJob, deque[Clip]] = {}

    def add(self, clip: Clip) -> None:
        """Lets a clip wait here, behind those of its job."""
        self._waiting.setdefault(clip.job, deque()).append(clip)

    def drop(self, job: EngineJob) -> list[Clip]:
        """Takes a job's clips out and returns them."""
        return list(self._waiting.pop(job, ()))

    def seconds_until_ready(self, open_jobs: int) -> float | None:
        """How long to wait before a batch should be taken: 0 for at once, None where nothing waits.

        At once when it would be full, when every open job has something in it, or when somebody has waited long enough.
        """
        if not self._waiting:
            return None
        if len(self._waiting) >= open_jobs or self._size() >= self._max_batch:
            return 0.0
        oldest = min(clips[0].arrived for clips in self._waiting.values())
        return max(0.0, oldest + self._max_wait - time.monotonic())

    def take(self) -> list[Share]:
        """The next batch, of the jobs that are due first; at least one share where anything waits."""
        batch: list[Share] = []
        room, length = self._max_batch, 0
        for job in sorted(self._waiting, key=lambda job: job.due):
            clips = self._waiting[job]
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
                job.serve(len(share))
            while clips and clips[0].taken == len(clips[0]):
                clips.popleft()
            if not clips:
                del self._waiting[job]
        return batch

    def _size(self) -> int:
        """Clips, or frames, that one batch could hold of what waits, by `job_share`."""
        size = 0
        for clips in self._waiting.values():
            for index in range(min(self._job_share, len(clips))):
                size += len(clips[index]) - clips[index].taken if self.stage.span == "frame" else 1
        return size

"""A model that is ready to run: threads that take batches from the stages' queues."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from models.engines import StageEngine, Tensors
from models.errors import EngineError
from models.graph.bundle import FRAMES, TIMESTAMPS, Manifest, Stage
from models.graph.predictions import prediction_names
from service.scheduling.batcher import Batcher
from service.scheduling.clip import Clip, Share
from service.scheduling.errors import ClipFailed, EngineDied
from service.scheduling.job import EngineJob
from service.scheduling.statistics import Batch, EngineStatistics

log = logging.getLogger(__name__)

FAILURES_OF_A_BROKEN_ENGINE = 8
"""So many clips in a row, of whatever video, that a stage fails on: it is the engine then, not the videos."""

FRAMES_AHEAD = 32
"""At least so many frames of a job may be under way: the engine goes on while the job's thread makes a graph of as many
(`service.graph.builder.FRAMES_AT_ONCE`), or while it does not get the interpreter."""


class Engine:
    """One model, with a thread for each of its streams; all jobs share them.

    Each thread has stage engines of its own, because a session that several threads feed at once is no faster on a CPU
    and grows without bound on a GPU. When a thread dies, all that was under way is told EngineDied, `is_alive` turns
    false for good, and `on_death` is called: only a new process can be trusted then.
    """

    def __init__(
        self,
        manifest: Manifest,
        streams: Sequence[Sequence[StageEngine]],
        *,
        max_batch: int,
        job_share: int,
        max_wait: float,
    ) -> None:
        """`streams`: for each thread the engines of all stages; for the rest see Batcher. Starts the threads.

        Raises EngineError when the stages need a tensor that none before makes.
        """
        check_stages(manifest.stages)
        self.manifest = manifest
        self.name = streams[0][0].name
        self.streams = len(streams)
        self.max_batch = max_batch
        self.depth = max(2 * job_share * self.streams, math.ceil(FRAMES_AHEAD / manifest.clip_length))
        """Clips of one job that may be under way: as many as can be in batches, and as many that wait for the next."""
        self.statistics = EngineStatistics()
        self.on_batch: Callable[[Batch], None] = lambda batch: None
        self.on_death: Callable[[], None] = lambda: None
        self._batchers = [
            Batcher(stage, max_batch=max_batch, job_share=job_share, max_wait=max_wait) for stage in manifest.stages
        ]
        self._needed = _needed_after(manifest.stages, prediction_names(manifest.vocabulary))
        self._jobs: set[EngineJob] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._death: BaseException | None = None
        self._failures = 0
        self._moved_at = time.monotonic()
        self._threads = [
            threading.Thread(target=self._work, args=(stages,), name=f"vsg-{manifest.name}-{number}", daemon=True)
            for number, stages in enumerate(streams)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether all threads live; once one has died they do not come back."""
        return self._death is None

    @property
    def first_video_stage(self) -> int | None:
        """The number of the first stage that must see a whole video."""
        return next((number for number, stage in enumerate(self.manifest.stages) if stage.span == "video"), None)

    def idle_seconds(self) -> float:
        """Since when nothing has come out although something is under way; 0 where nothing is."""
        with self._changed:
            busy = any(job.under_way for job in self._jobs)
            return time.monotonic() - self._moved_at if busy else 0.0

    def open(self, expected: int) -> EngineJob:
        """A new job of about so many frames. Raises EngineDied."""
        with self._changed:
            self._require_alive()
            # Whoever comes is due with those that have waited longest, not before all that they had since the start.
            job = EngineJob(self, expected, min((other.due for other in self._jobs), default=0.0))
            self._jobs.add(job)
            return job

    def submit(self, clip: Clip) -> None:
        """Lets a clip wait at its stage. Raises EngineDied; a clip of a job that is over is told so."""
        with self._changed:
            self._require_alive()
            if clip.job not in self._jobs:
                clip.done.cancel()
                return
            if not any(job.under_way for job in self._jobs):
                self._moved_at = time.monotonic()
            clip.job.under_way.add(clip)
            self._batchers[clip.stage].add(clip)
            self._changed.notify()

    def leave(self, job: EngineJob) -> None:
        """Ends a job: its clips leave the queues, and what a running batch makes of them is dropped."""
        with self._changed:
            self._jobs.discard(job)
            self._drop(job)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the threads, after the batches that run."""
        with self._changed:
            self._stopping = True
            for job in list(self._jobs):
                self._jobs.discard(job)
                self._drop(job)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, stages: Sequence[StageEngine]) -> None:
        # Who waits for these is told when the next batch is at the engine: all of them then want the interpreter, and
        # before it this thread would have to wait for it between any two lines.
        finished: list[tuple[Clip, Tensors]] = []
        try:
            while batch := self._next_batch(finished):
                self._run(batch, stages, finished)
        except BaseException as error:  # whatever it is, nobody else would notice that this thread is gone
            _tell(finished)
            log.critical("an engine thread of %s has died", self.manifest.name, exc_info=error)
            self._die(error)

    def _next_batch(self, finished: list[tuple[Clip, Tensors]]) -> list[Share]:
        """Waits for a batch, of the last stage that has one; empty when there will be none any more.

        Where it must wait, it tells first what is finished.
        """
        with self._changed:
            while not self._stopping and self._death is None:
                waits: list[float] = []
                # What is nearly done goes first, so that little is under way.
                for batcher in reversed(self._batchers):
                    seconds = batcher.seconds_until_ready(len(self._jobs))
                    if seconds == 0:
                        return batcher.take()
                    if seconds is not None:
                        waits.append(seconds)
                if finished:
                    _tell(finished)
                    continue
                self._changed.wait(min(waits, default=None))
            _tell(finished)
            return []

    def _run(self, batch: list[Share], stages: Sequence[StageEngine], finished: list[tuple[Clip, Tensors]]) -> None:
        stage = self.manifest.stages[batch[0].clip.stage]
        began = time.monotonic()
        try:
            tensors = _gathered(stage, batch)
            _tell(finished)
            parts = _parted(stage, batch, stages[batch[0].clip.stage].run(tensors))
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0].clip, stage, error)
                return
            log.warning("stage %r failed on a batch of %d; each is tried alone: %s", stage.name, len(batch), error)
            for share in batch:
                self._run([share], stages, finished)
            return
        frames = sum(map(len, batch))
        size = frames if stage.span == "frame" else len(batch)
        waited = began - min(share.clip.arrived for share in batch)
        self._count(Batch(stage.name, size, frames, waited, time.monotonic() - began))
        self._trace(batch, stage, size, began)
        with self._changed:
            self._failures = 0
            self._moved_at = time.monotonic()
            for share, outputs in zip(batch, parts, strict=True):
                if share.clip in share.clip.job.under_way and (whole := share.complete(outputs)) is not None:
                    self._advance(share.clip, whole, finished)
            self._changed.notify_all()

    def _advance(self, clip: Clip, outputs: Tensors, finished: list[tuple[Clip, Tensors]]) -> None:
        """Lets a clip go on to its next stage, or notes that it is done."""
        needed = self._needed[clip.stage]
        tensors = {name: tensor for name, tensor in (clip.tensors | outputs).items() if name in needed}
        following = clip.stage + 1
        if following in (len(self.manifest.stages), self.first_video_stage):
            clip.job.under_way.discard(clip)
            finished.append((clip, tensors))
        else:
            clip.enter(following, tensors)
            self._batchers[following].add(clip)

    def _fail(self, clip: Clip, stage: Stage, error: Exception) -> None:
        """Tells a clip's job that it failed, and gives up its other clips; dies where too many fail in a row."""
        clip.job.context.copy().run(
            log.error, "stage %r of %s failed on a clip", stage.name, self.manifest.name, exc_info=error
        )
        with self._changed:
            self._moved_at = time.monotonic()
            self._failures += 1
            failures = self._failures
            if clip in clip.job.under_way:
                clip.job.under_way.discard(clip)
                clip.done.set_exception(ClipFailed("the model failed on this video; the operator's log says why"))
                self._drop(clip.job)
        if failures >= FAILURES_OF_A_BROKEN_ENGINE:
            raise RuntimeError(f"stage {stage.name!r} failed on {failures} clips in a row") from error

    def _drop(self, job: EngineJob) -> None:
        for batcher in self._batchers:
            batcher.drop(job)
        for clip in job.under_way:
            clip.done.cancel()
        job.under_way.clear()

    def _die(self, error: BaseException) -> None:
        with self._changed:
            first = self._death is None
            self._death = self._death or error
            for job in self._jobs:
                for clip in job.under_way:
                    clip.done.set_exception(EngineDied("an engine thread has died"))
                job.under_way.clear()
                self._drop(job)
            self._changed.notify_all()
        if first:
            self.on_death()

    def _require_alive(self) -> None:
        if self._death is not None:
            raise EngineDied("an engine thread has died")

    def _trace(self, batch: list[Share], stage: Stage, size: int, began: float) -> None:
        seconds = time.monotonic() - began
        for job in {share.clip.job for share in batch if share.clip.job.trace.is_on}:
            shares = [share for share in batch if share.clip.job is job]
            job.trace.add_batch(
                self.manifest.name,
                stage.name,
                size=size,
                frames=sum(map(len, shares)),
                waited=began - min(share.clip.arrived for share in shares),
                seconds=seconds,
            )

    def _count(self, batch: Batch) -> None:
        self.statistics.add(batch)
        self.on_batch(batch)


def _tell(finished: list[tuple[Clip, Tensors]]) -> None:
    """Gives the tensors to whoever waits for these clips, and forgets them."""
    for clip, tensors in finished:
        clip.done.set_result(tensors)
    finished.clear()


def _gathered(stage: Stage, batch: list[Share]) -> Tensors:
    """The inputs of all shares as one batch."""
    names = [tensor.name for tensor in stage.inputs]
    if stage.span == "frame":
        # (N, 1, …): every frame is a batch element of its own.
        return {name: np.concatenate([share.of(name) for share in batch])[:, None] for name in names}
    if len(batch) == 1:
        return {name: batch[0].of(name)[None] for name in names}
    return {name: np.stack([share.of(name) for share in batch]) for name in names}


def _parted(stage: Stage, batch: list[Share], outputs: Tensors) -> list[Tensors]:
    """The outputs for each share, (T, …) each."""
    if stage.span == "frame":
        ends = np.cumsum([len(share) for share in batch]).tolist()
        return [
            {name: tensor[end - len(share) : end, 0] for name, tensor in outputs.items()}
            for share, end in zip(batch, ends, strict=True)
        ]
    if len(batch) == 1:
        return [{name: tensor[0] for name, tensor in outputs.items()}]
    # Copies, so that what one job keeps does not keep the rest of the batch in memory.
    return [{name: tensor[place].copy() for name, tensor in outputs.items()} for place in range(len(batch))]


def _needed_after(stages: Sequence[Stage], kept: frozenset[str]) -> list[frozenset[str]]:
    """For every stage the tensors that somebody still needs when it has run."""
    needed = [kept]
    for stage in reversed(stages[1:]):
        needed.insert(0, needed[0] | {tensor.name for tensor in stage.inputs})
    return needed


def check_stages(stages: Sequence[Stage]) -> None:
    """Raises EngineError when a stage needs a tensor that none before it makes."""
    known = {FRAMES, TIMESTAMPS}
    for stage in stages:
        for tensor in stage.inputs:
            if tensor.name not in known:
                raise EngineError(
                    f"stage {stage.name!r} needs {tensor.name!r}, which no stage before it makes; export it again"
                )
        known |= {tensor.name for tensor in stage.outputs}

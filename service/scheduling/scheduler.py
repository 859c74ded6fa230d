"""A model that is ready to run, shared by all videos: its threads take batches from the stages' queues."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from models.engines import StageEngine, Tensors
from models.errors import EngineError
from models.graph.bundle import FRAMES, PICTURE_SIZE, TIMESTAMPS, Manifest, Stage
from models.graph.predictions import PERSON_FIELDS, prediction_names
from models.graph.scene_graph import ModelReference
from service.errors import ClipFailed, EngineDied
from service.scheduling.batcher import Batch, Batcher, Clip, Share, Turn

log = logging.getLogger(__name__)

# When a stage fails on so many clips in a row, of whatever videos, the model is broken and not the videos.
FAILURES_OF_A_BROKEN_ENGINE = 8

# At least so many frames of a video may be under way. The model then has work while the video's thread builds the graph
# of as many frames (`service.graph.builder.FRAMES_AT_ONCE`) or waits for the interpreter.
FRAMES_AHEAD = 32


class Scheduler:
    """Runs one model for all videos, with one thread for each of its streams.

    Each thread has stage engines of its own, because a session that several threads feed at once is no faster on a CPU
    and grows without bound on a GPU. When a thread dies, all videos under way get EngineDied and no new ones are
    accepted: only a new process can be trusted then.

    manifest: of the model's bundle.
    engine: name of the runtime, such as `onnxruntime-cpu`.
    streams: number of threads.
    max_batch: most clips in a batch.
    depth: most clips of one video under way: as many as fit into batches, and as many again that wait for the next.
    first_video_stage: number of the first stage of span `video`, or None.
    waiting_pair_fields: names of the predictions with a slot for each pair that no stage from that one on takes.
    """

    def __init__(
        self,
        manifest: Manifest,
        streams: Sequence[Sequence[StageEngine]],
        *,
        max_batch: int,
        job_share: int,
        max_wait: float,
        on_batch: Callable[[str, Batch], None] = lambda model, batch: None,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts the threads.

        streams: the engines of all stages, for each thread.
        max_batch, job_share, max_wait: see `Batcher`.
        on_batch: is called after each batch with the name of the model, from the thread that ran the batch.
        on_death: is called once when a thread dies, from that thread.

        Raises EngineError when a stage needs a tensor that no stage before it makes.
        """
        check_stages(manifest.stages)
        self.manifest = manifest
        self.engine = streams[0][0].name
        self.streams = len(streams)
        self.max_batch = max_batch
        self.depth = max(2 * job_share * self.streams, math.ceil(FRAMES_AHEAD / manifest.clip_length))
        spans = [stage.span for stage in manifest.stages]
        self.first_video_stage = spans.index("video") if "video" in spans else None
        self._on_batch = on_batch
        self._on_death = on_death
        self._batchers = [
            Batcher(stage, max_batch=max_batch, job_share=job_share, max_wait=max_wait) for stage in manifest.stages
        ]
        names = prediction_names(manifest.vocabulary)
        self._needed = _needed_after(manifest.stages, names)
        late = [] if self.first_video_stage is None else manifest.stages[self.first_video_stage :]
        self.waiting_pair_fields = names - {"pair_mask", *PERSON_FIELDS}.union(*map(_input_names, late))
        self._turns: set[Turn] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._is_dead = False
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
        """Whether all threads are alive. A dead one does not come back."""
        return not self._is_dead

    @property
    def reference(self) -> ModelReference:
        """The model as the graphs that it makes name it."""
        manifest = self.manifest
        return ModelReference(
            name=manifest.name, version=manifest.version, engine=self.engine, precision=manifest.precision
        )

    def idle_seconds(self) -> float:
        """Seconds since the last batch ended, if clips are under way; otherwise 0."""
        with self._changed:
            busy = any(turn.under_way for turn in self._turns)
            return time.monotonic() - self._moved_at if busy else 0.0

    def open(self, expected: int) -> Turn:
        """Opens the turn of a video of about so many frames. Raises EngineDied."""
        with self._changed:
            self._require_alive()
            # A newcomer is due with those that have waited longest, not before everything they got since the start.
            turn = Turn(due=min((other.due for other in self._turns), default=0.0), expected=expected)
            self._turns.add(turn)
            return turn

    def submit(self, clip: Clip) -> None:
        """Lets a clip wait at its stage. Cancels a clip whose turn is over. Raises EngineDied."""
        with self._changed:
            self._require_alive()
            if clip.turn not in self._turns:
                clip.done.cancel()
                return
            if not any(turn.under_way for turn in self._turns):
                self._moved_at = time.monotonic()
            clip.turn.under_way.add(clip)
            self._batchers[clip.stage].add(clip)
            self._changed.notify()

    def leave(self, turn: Turn) -> None:
        """Ends a turn: its clips leave the queues, and what a running batch makes of them is dropped."""
        with self._changed:
            self._turns.discard(turn)
            self._drop(turn)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends all turns, and the threads after the batches that they run."""
        with self._changed:
            self._stopping = True
            for turn in self._turns:
                self._drop(turn)
            self._turns.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self, stages: Sequence[StageEngine]) -> None:
        # Finished clips are delivered once the next batch is ready to run. Delivered earlier, their jobs would all want
        # the interpreter, and this thread would wait for it between any two lines of preparing that batch.
        finished: list[tuple[Clip, Tensors]] = []
        try:
            while batch := self._next_batch(finished):
                self._run(batch, stages, finished)
                batch.clear()  # while this thread waits, it keeps no clip in memory
        except BaseException as error:  # of any kind: nobody else would notice that this thread is gone
            _deliver(finished)
            log.critical("an engine thread of %s has died", self.manifest.name, exc_info=error)
            self._die()

    def _next_batch(self, finished: list[tuple[Clip, Tensors]]) -> list[Share]:
        """Waits for the next batch, and delivers finished clips before it waits. Empty when there will be none."""
        with self._changed:
            while not self._stopping and not self._is_dead:
                waits: list[float] = []
                # The last stages go first, so that few clips are under way.
                for batcher in reversed(self._batchers):
                    seconds = batcher.seconds_until_ready(len(self._turns))
                    if seconds == 0:
                        return batcher.take()
                    if seconds is not None:
                        waits.append(seconds)
                if finished:
                    _deliver(finished)
                    continue
                self._changed.wait(min(waits, default=None))
            _deliver(finished)
            return []

    def _run(self, batch: list[Share], stages: Sequence[StageEngine], finished: list[tuple[Clip, Tensors]]) -> None:
        stage = self.manifest.stages[batch[0].clip.stage]
        began = time.monotonic()
        try:
            tensors = _gathered(stage, batch)
            _deliver(finished)
            parts = _parted(stage, batch, stages[batch[0].clip.stage].run(tensors))
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0].clip, stage, error)
                return
            log.warning("stage %r failed on a batch of %d; trying each alone: %s", stage.name, len(batch), error)
            for share in batch:
                self._run([share], stages, finished)
            return
        self._count(batch, stage, began)
        with self._changed:
            self._failures = 0
            self._moved_at = time.monotonic()
            for share, outputs in zip(batch, parts, strict=True):
                if share.clip in share.clip.turn.under_way and (whole := share.complete(outputs)) is not None:
                    self._advance(share.clip, whole, finished)
            self._changed.notify_all()

    def _count(self, batch: list[Share], stage: Stage, began: float) -> None:
        """Reports a batch that has just run, and adds it to the traces of its videos."""
        seconds = time.monotonic() - began
        frames = sum(map(len, batch))
        size = frames if stage.span == "frame" else len(batch)
        waited = began - min(share.clip.arrived for share in batch)
        self._on_batch(self.manifest.name, Batch(stage.name, size, frames, waited, seconds))
        for turn in {share.clip.turn for share in batch if share.clip.turn.trace.is_on}:
            shares = [share for share in batch if share.clip.turn is turn]
            turn.trace.add_batch(
                self.manifest.name,
                stage.name,
                size=size,
                frames=sum(map(len, shares)),
                waited=began - min(share.clip.arrived for share in shares),
                seconds=seconds,
            )

    def _advance(self, clip: Clip, outputs: Tensors, finished: list[tuple[Clip, Tensors]]) -> None:
        """Moves a clip on to its next stage, or adds it to the finished ones."""
        needed = self._needed[clip.stage]
        tensors = {name: tensor for name, tensor in (clip.tensors | outputs).items() if name in needed}
        following = clip.stage + 1
        if following in (len(self.manifest.stages), self.first_video_stage):
            clip.turn.under_way.discard(clip)
            finished.append((clip, tensors))
        else:
            clip.enter(following, tensors)
            self._batchers[following].add(clip)

    def _fail(self, clip: Clip, stage: Stage, error: Exception) -> None:
        """Tells a video that its clip has failed and drops its other clips. Raises RuntimeError after too many."""
        clip.turn.context.copy().run(
            log.error, "stage %r of %s failed on a clip", stage.name, self.manifest.name, exc_info=error
        )
        with self._changed:
            self._moved_at = time.monotonic()
            self._failures += 1
            failures = self._failures
            if clip in clip.turn.under_way:
                clip.turn.under_way.discard(clip)
                clip.done.set_exception(ClipFailed("the model failed on this video; the operator's log says why"))
                self._drop(clip.turn)
        if failures >= FAILURES_OF_A_BROKEN_ENGINE:
            raise RuntimeError(f"stage {stage.name!r} failed on {failures} clips in a row") from error

    def _drop(self, turn: Turn) -> None:
        for batcher in self._batchers:
            batcher.drop(turn)
        for clip in turn.under_way:
            clip.done.cancel()
        turn.under_way.clear()

    def _die(self) -> None:
        with self._changed:
            is_first, self._is_dead = not self._is_dead, True
            for turn in self._turns:
                for clip in turn.under_way:
                    clip.done.set_exception(EngineDied("an engine thread has died"))
                turn.under_way.clear()
                self._drop(turn)
            self._changed.notify_all()
        if is_first:
            self._on_death()

    def _require_alive(self) -> None:
        if self._is_dead:
            raise EngineDied("an engine thread has died")


def _deliver(finished: list[tuple[Clip, Tensors]]) -> None:
    """Gives the tensors to those who wait for the clips, and empties the list."""
    for clip, tensors in finished:
        clip.done.set_result(tensors)
    finished.clear()


def _gathered(stage: Stage, batch: list[Share]) -> Tensors:
    """The inputs of all shares as one batch."""
    names = [tensor.name for tensor in stage.inputs]
    if stage.span == "frame":
        # (N, 1, …): each frame is an element of the batch.
        return {name: np.concatenate([share.of(name) for share in batch])[:, None] for name in names}
    if len(batch) == 1:
        return {name: batch[0].of(name)[None] for name in names}
    return {name: np.stack([share.of(name) for share in batch]) for name in names}


def _parted(stage: Stage, batch: list[Share], outputs: Tensors) -> list[Tensors]:
    """The outputs of each share, (T, …) each."""
    if stage.span == "frame":
        ends = np.cumsum([len(share) for share in batch]).tolist()
        return [
            {name: tensor[end - len(share) : end, 0] for name, tensor in outputs.items()}
            for share, end in zip(batch, ends, strict=True)
        ]
    if len(batch) == 1:
        return [{name: tensor[0] for name, tensor in outputs.items()}]
    # Copies, so that one video does not keep the whole batch in memory.
    return [{name: tensor[place].copy() for name, tensor in outputs.items()} for place in range(len(batch))]


def _needed_after(stages: Sequence[Stage], kept: frozenset[str]) -> list[frozenset[str]]:
    """For each stage, the tensors that a later stage or the caller still needs."""
    needed = [kept]
    for stage in reversed(stages[1:]):
        needed.insert(0, needed[0] | _input_names(stage))
    return needed


def _input_names(stage: Stage) -> set[str]:
    return {tensor.name for tensor in stage.inputs}


def check_stages(stages: Sequence[Stage]) -> None:
    """Raises EngineError when a stage needs a tensor that no stage before it makes."""
    known = {FRAMES, TIMESTAMPS, PICTURE_SIZE}
    for stage in stages:
        for tensor in stage.inputs:
            if tensor.name not in known:
                raise EngineError(
                    f"stage {stage.name!r} needs {tensor.name!r}, which no stage before it makes; export it again"
                )
        known |= {tensor.name for tensor in stage.outputs}

"""The run of one video through a model."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.engines import Tensors, bundle_inputs
from service.errors import JobCancelled
from service.scheduling.batcher import Clip
from service.scheduling.scheduler import FRAMES_AHEAD, Scheduler
from service.scheduling.whole_video import WholeVideo
from service.video import FrameChunk


class VideoRun:
    """Takes one video through a model that others use at the same time. A context manager; leaving it drops what is not
    done. Use it from one thread; only `cancel` may be called from others.

    waited: seconds that the caller has waited for the model.
    """

    def __init__(self, scheduler: Scheduler, expected: int, *, picture_size: tuple[float, float] | None = None) -> None:
        """Opens the video's turn. Raises EngineDied.

        expected: likely number of frames of the video.
        picture_size: width and height of a whole frame in pixels of the displayed video; None takes the size of the
            frames.
        """
        self._picture_size = picture_size
        self._scheduler = scheduler
        self._expected = expected
        self._turn = scheduler.open(expected)
        self.waited = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._scheduler.leave(self._turn)

    def cancel(self) -> None:
        """Drops all clips. Whoever waits for one gets JobCancelled."""
        self._scheduler.leave(self._turn)

    def outputs(self, clips: Iterable[FrameChunk]) -> Iterator[tuple[NDArray[np.float64], Tensors]]:
        """Runs clips through the stages up to the first of span `video`, and yields what comes out, in order.

        clips: frames of the model's size; each clip has at most the model's clip length.

        Yields the timestamps (T,) of each clip and its tensors (T, …), without the frames. Takes the next clip only
        when there is room for it, which holds back the decoder. Raises ClipFailed when a stage fails on a clip,
        EngineDied when the model can no longer run, and JobCancelled.
        """
        waiting: deque[tuple[NDArray[np.float64], Clip]] = deque()
        for chunk in clips:
            tensors = bundle_inputs(chunk.frames, chunk.timestamps, self._picture_size)
            waiting.append((chunk.timestamps, self._submitted(Clip(self._turn, tensors))))
            while len(waiting) >= self._scheduler.depth or (waiting and waiting[0][1].done.done()):
                times, clip = waiting.popleft()
                yield times, self._result(clip)
        for times, clip in waiting:
            yield times, self._result(clip)

    def finish(
        self, clips: Iterable[tuple[NDArray[np.float64], Tensors]]
    ) -> Iterator[tuple[NDArray[np.float64], Tensors]]:
        """Takes all that `outputs` yields, runs the stages from the first of span `video` on, and yields their outputs.

        clips: at least one.

        Yields the timestamps (T,) of a few frames, in order, and the arrays of
        `models.graph.predictions.PairPredictions` by name, (T, …) each. Slots that hold no pair are 0. Raises what
        `outputs` raises.
        """
        scheduler = self._scheduler
        whole = WholeVideo(self._expected, scheduler.waiting_pair_fields)
        times = []
        for clip_times, tensors in clips:
            times.append(clip_times)
            whole.add(tensors)
        made = whole.take_frames()
        if scheduler.first_video_stage is not None:
            made = self._result(self._submitted(Clip(self._turn, made, stage=scheduler.first_video_stage)))
        moments = np.concatenate(times)
        for first, part in whole.parts(made, FRAMES_AHEAD):
            yield moments[first : first + FRAMES_AHEAD], part

    def _submitted(self, clip: Clip) -> Clip:
        self._scheduler.submit(clip)
        return clip

    def _result(self, clip: Clip) -> Tensors:
        since = time.perf_counter()
        try:
            return clip.done.result()
        except CancelledError:
            raise JobCancelled("the job was cancelled") from None
        finally:
            self.waited += time.perf_counter() - since

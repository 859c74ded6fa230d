"""The measurements of `vsg bench`: the same frames through decoder, engine, pipeline and service."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from benchmarks.service.processes import PeakMemory, cpu_seconds
from benchmarks.service.server import Load, serving
from models.engines import EngineOptions, open_stages
from models.graph.bundle import Bundle
from service.cores import usable_cores
from service.loading import open_scheduler
from service.options import VideoOptions
from service.pipeline import Pipeline, clips, sampling_of
from service.scheduling import Batch, Scheduler, VideoRun
from service.settings import Settings, decode_limits
from service.video import FrameChunk, VideoReader

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rate:
    """Frames per second of one part.

    cpu_ms: processor milliseconds for each frame, of all threads and processes that worked on it.
    """

    frames: int
    fps: float
    cpu_ms: float


@dataclass(frozen=True)
class Offline(Rate):
    """`vsg graph`: one video from file to graph, without HTTP.

    speed: seconds of video per second.
    peak_memory_mib: peak memory of this process and its decoder.
    """

    speed: float
    peak_memory_mib: float


@dataclass(frozen=True)
class EngineRate(Rate):
    """The engine alone, with frames that are in memory.

    jobs: videos at once.
    batch_sizes: numbers of batches by stage and size.
    busy: share of the time that the engine's threads were busy.
    """

    jobs: int
    batch_sizes: dict[str, dict[str, int]]
    busy: float


@dataclass(frozen=True)
class TorchRate(Rate):
    """Eager PyTorch on all cores, one video at a time and clip by clip, while the next frames are decoded.

    weights: name of the checkpoint, or `random`; the speed is the same.
    """

    weights: str


class Bench:
    """Measurements of one bundle with one video; each takes as many frames of it as the options say."""

    def __init__(self, bundle: Path, video: Path, options: VideoOptions, settings: Settings) -> None:
        self._bundle = Bundle.load(bundle)
        self._video = video
        self._options = options
        self.settings = settings
        self.applied, _ = options.applied(max_fps=settings.max_fps, max_frames=settings.max_frames)
        self._batches: list[Batch] = []
        self.model = open_scheduler(self._bundle, settings, on_batch=lambda _, batch: self._batches.append(batch))
        self.pipeline = Pipeline(
            {self.model.manifest.name: self.model},
            decode_limits(settings),
            max_fps=settings.max_fps,
            max_frames=settings.max_frames,
        )

    def offline(self) -> Offline:
        """Measures the pipeline without HTTP. Must come first: its peak memory counts all before it."""
        few = self._options.model_copy(update={"max_frames": self.model.manifest.clip_length})
        self.pipeline.write(self._video, few, BytesIO())  # the first video imports and allocates
        out = BytesIO()
        with PeakMemory() as memory:
            summary, seconds, cpu = _timed(lambda: self.pipeline.write(self._video, self._options, out))
        last = (summary.frames - 1) / self.applied.fps + 1 / self.applied.fps
        fps, cpu_ms = summary.frames / seconds, cpu / summary.frames * 1e3
        return Offline(summary.frames, fps, cpu_ms, speed=last / seconds, peak_memory_mib=memory.mebibytes)

    def decode(self) -> tuple[Rate, list[FrameChunk]]:
        """Measures decoding and resizing alone; returns the clips for other measurements too."""
        found, seconds, cpu = _timed(self._decoded)
        frames = sum(len(clip.timestamps) for clip in found)
        return Rate(frames, frames / seconds, cpu / frames * 1e3), found

    def run_engine(self, found: Sequence[FrameChunk], *, jobs: int) -> EngineRate:
        """Measures the engine alone, as the service runs it, on `jobs` copies of the video at once."""
        model = self.model
        self._batches.clear()

        def work() -> None:
            with VideoRun(model, sum(len(clip.timestamps) for clip in found)) as run:
                for _ in run.finish(run.outputs(found)):
                    pass

        def all_jobs() -> None:
            threads = [threading.Thread(target=work) for _ in range(jobs)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        _, seconds, cpu = _timed(all_jobs)
        frames = jobs * sum(len(clip.timestamps) for clip in found)
        sizes: dict[str, dict[str, int]] = {}
        for (stage, size), count in sorted(Counter((batch.stage, batch.size) for batch in self._batches).items()):
            sizes.setdefault(stage, {})[str(size)] = count
        busy = sum(batch.seconds for batch in self._batches) / (seconds * model.streams)
        return EngineRate(frames, frames / seconds, cpu / frames * 1e3, jobs=jobs, batch_sizes=sizes, busy=min(1, busy))

    def http(self, clients: Sequence[int], *, videos_each: int) -> list[Load]:
        """Measures `vsg serve` with these settings for each number of clients, after one video to warm up."""
        environment = {
            name.upper(): value
            for name, value in self.settings.model_dump(exclude_unset=True).items()
            if name not in ("bundles", "host", "port", "log_level", "max_wait")
        }
        query = f"fps={self.applied.fps}&max_frames={self.applied.max_frames}"
        with serving(self._bundle.folder, environment, streams=self.model.streams) as server:
            server.load(self._video, query, clients=1, videos_each=1)
            return [server.load(self._video, query, clients=count, videos_each=videos_each) for count in clients]

    def torch(self, checkpoint: Path | None) -> TorchRate:
        """Measures eager PyTorch on the CPU without batches. Raises EngineError where it cannot run the bundle."""
        threads = self.settings.threads or usable_cores()
        # In fp32, as a user would run it, whatever the precision of the bundle.
        plain = Bundle(self._bundle.folder, self._bundle.manifest.model_copy(update={"precision": "fp32"}))
        stages = open_stages(plain, "torch-cpu", EngineOptions(threads=threads, checkpoint=checkpoint))
        model = Scheduler(self._bundle.manifest, [stages], max_batch=1, job_share=1, max_wait=0)

        def run() -> int:
            with self._reader() as reader, VideoRun(model, self.applied.max_frames) as video:
                outputs = video.outputs(clips(reader, model.manifest.clip_length))
                return sum(len(times) for times, _ in video.finish(outputs))

        try:
            run()  # the first run allocates
            frames, seconds, cpu = _timed(run)
        finally:
            model.close()
        weights = "random" if checkpoint is None else checkpoint.name
        return TorchRate(frames, frames / seconds, cpu / frames * 1e3, weights=weights)

    def close(self) -> None:
        """Stops the engine."""
        self.pipeline.close()

    def _reader(self) -> VideoReader:
        return VideoReader(self._video, sampling_of(self.applied, self.model), decode_limits(self.settings))

    def _decoded(self) -> list[FrameChunk]:
        with self._reader() as reader:
            return list(clips(reader, self.model.manifest.clip_length))


def _timed(run: Callable[[], Result]) -> tuple[Result, float, float]:
    """Runs a function; returns its result, seconds by the clock and seconds of all processors."""
    began, cpu = time.perf_counter(), cpu_seconds(with_children=True)
    result = run()
    return result, time.perf_counter() - began, cpu_seconds(with_children=True) - cpu

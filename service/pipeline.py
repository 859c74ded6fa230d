"""A video file becomes its scene graph: decode, engine, graph, prompt."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.engines import Tensors
from models.graph.bundle import sha256_of
from models.graph.predictions import PairPredictions
from models.graph.scene_graph import Frame, ModelReference, Options, SceneGraph, Video, Warning
from models.graph.vocabulary import Vocabulary
from service.errors import UnknownModel
from service.graph import GraphBuilder, write_graph
from service.options import VideoOptions
from service.prompt import Appearances, build_prompt
from service.scheduling import Engine, EngineJob, TimedClip
from service.scheduling.errors import JobCancelled
from service.settings import Settings, decode_limits
from service.tracing import add_part
from service.video import FrameChunk, Sampling, VideoInfo, VideoReader
from service.video.errors import VideoUnreadable

_CANCEL_INTERVAL = 0.1  # seconds


@dataclass(frozen=True)
class Progress:
    """How far a run is: frames done of those expected, which is the most possible where no duration is known."""

    frames: int
    expected: int


@dataclass
class Stopwatch:
    """Adds up the seconds that one video spends in each part, since it was made.

    spans  when each part began first and ended last; all moments are of `time.perf_counter`
    """

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, part: str, since: float) -> None:
        """Adds the time from `since` (of `time.perf_counter`) until now to a part."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - since
        self.spans[part] = (self.spans.get(part, (since, now))[0], now)

    def trace(self, part: str) -> None:
        """Adds a part, if it has begun, to the trace of the job at hand."""
        if part in self.spans:
            since, until = self.spans[part]
            add_part(part, since=since, until=until, busy=self.seconds[part])

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Adds the time that the context takes to a part."""
        since = time.perf_counter()
        try:
            yield
        finally:
            self.add(part, since)

    def timings(self) -> dict[str, float]:
        """Seconds by part, and in total until now."""
        seconds = {**self.seconds, "total": time.perf_counter() - self.began}
        return {part: round(value, 4) for part, value in seconds.items()}


@dataclass(frozen=True)
class Summary:
    """What is known of a graph that has been written; `timings` in seconds by part."""

    model: str
    frames: int
    timings: Mapping[str, float]


class Pipeline:
    """Turns videos into scene graphs. `write` and `run` may be called from several threads."""

    def __init__(self, models: Mapping[str, Engine], settings: Settings) -> None:
        """`models` by name, the default first; must not be empty."""
        self.models = models
        self._settings = settings
        self._limits = decode_limits(settings)

    def model(self, name: str | None) -> Engine:
        """The model of that name, or the default for None. Raises UnknownModel."""
        if name is None:
            return next(iter(self.models.values()))
        try:
            return self.models[name]
        except KeyError:
            served = ", ".join(self.models)
            raise UnknownModel("model", f"no model named {name[:80]!r} is served here; there is {served}") from None

    def close(self) -> None:
        """Ends the engines' threads."""
        for engine in self.models.values():
            engine.close()

    def run(self, path: Path, options: VideoOptions, **rest: Any) -> SceneGraph:
        """The scene graph of one video file, in memory; takes and raises what `write` does."""
        out = BytesIO()
        self.write(path, options, out, **rest)
        return SceneGraph.model_validate_json(out.getvalue())

    def write(
        self,
        path: Path,
        options: VideoOptions,
        out: BinaryIO,
        *,
        video_id: str | None = None,
        sha256: str | None = None,
        progress: Callable[[Progress], None] = lambda progress: None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Summary:
        """Writes the scene graph of one video file as the JSON of `SceneGraph`.

        Decoding, engine and graph go on at the same time. Of the frames a few clips are held, however long the video
        is; of the rest, what linking over time and the model's stages of span `video` need.

        video_id   names the graph; by default the beginning of the sha256
        sha256     of the file, where the caller knows it
        progress   is called after every clip
        cancelled  is asked ten times a second from another thread; once it says so, all stops at once

        Raises UnknownModel, a VideoError or UnsupportedMedia for what is wrong with the request, ClipFailed,
        EngineDied, JobCancelled.
        """
        stopwatch = Stopwatch()
        engine = self.model(options.model)
        applied, warnings = options.applied(self._settings)
        sha256 = sha256_of(path) if sha256 is None else sha256
        reader = VideoReader(path, sampling_of(applied, engine), self._limits)
        with ExitStack() as stack:
            stack.callback(stopwatch.trace, "decode")
            stops = stack.enter_context(_stopped_by(cancelled))
            stops.append(reader.close)
            with stopwatch.measure("decode"):  # starting the decoder is part of it
                stack.enter_context(reader)
            info = reader.info
            expected = expected_frames(applied, info)
            progress(Progress(0, expected))
            job = stack.enter_context(engine.open(expected))
            stops.append(job.cancel)
            builder = GraphBuilder(
                vocabulary=engine.manifest.vocabulary,
                width=info.width,
                height=info.height,
                thresholds=engine.manifest.thresholds,
                scoring=engine.manifest.scoring,
                min_score=applied.min_score,
                top_k=applied.top_k,
                constraint=applied.constraint,
                duration=info.duration,
            )
            knows_uncertainty = False
            for times, outputs in _run_stages(engine, job, reader, stopwatch, expected, progress):
                knows_uncertainty = "epistemic" in outputs
                with stopwatch.measure("graph"):
                    builder.add(_predictions(outputs, engine.manifest.vocabulary, uncertain=applied.uncertainty), times)
            with stopwatch.measure("graph"):
                graph = builder.finish()
        if applied.uncertainty and not knows_uncertainty:
            detail = f"{engine.manifest.name!r} is a model that knows no uncertainty; its triplets carry none"
            warnings.append(Warning(code="no_uncertainty", detail=detail))
        since = time.perf_counter()
        appearances = Appearances()
        timings: dict[str, float] = {}

        def finish_timings() -> Mapping[str, float]:
            stopwatch.add("graph", since)
            timings.update(stopwatch.timings())
            return timings

        write_graph(
            out,
            id=sha256[:32] if video_id is None else video_id,
            video=Video(
                sha256=sha256,
                width=info.width,
                height=info.height,
                duration=info.duration,
                frame_rate=info.frame_rate,
                codec=info.codec,
            ),
            model=model_reference(engine),
            options=applied,
            vocabulary=graph.vocabulary,
            frames=_noted(graph.frames(), appearances),
            relations=graph.relations,
            prompt=lambda: build_prompt(appearances, graph.relations, graph.vocabulary, duration=info.duration),
            timings=finish_timings,
            warnings=[*warnings, *reader.warnings],
        )
        stopwatch.trace("graph")
        return Summary(engine.manifest.name, len(graph), timings)


def sampling_of(options: Options, engine: Engine) -> Sampling:
    """What the decoder is asked for: the options' times, the model's frame size."""
    size = engine.manifest.frame_size
    return Sampling(
        fps=options.fps,
        start=options.start,
        end=options.end,
        max_frames=options.max_frames,
        height=size.height,
        width=size.width,
    )


def expected_frames(options: Options, info: VideoInfo) -> int:
    """How many frames sampling will give, at least 1; the most possible where the container gives no duration."""
    ends = [moment for moment in (options.end, info.duration) if moment is not None]
    if not ends:
        return options.max_frames
    return max(1, min(options.max_frames, math.ceil((min(ends) - options.start) * options.fps)))


def model_reference(engine: Engine) -> ModelReference:
    """How a graph names the model that made it."""
    manifest = engine.manifest
    return ModelReference(
        name=manifest.name, version=manifest.version, engine=engine.name, precision=manifest.precision
    )


def clips(chunks: Iterable[FrameChunk], length: int) -> Iterator[TimedClip]:
    """Regroups frames, as they arrive, into clips of `length` consecutive ones; the last may be shorter.

    A clip that lies within a chunk is a view of it.
    """
    times: list[NDArray[np.float64]] = []
    frames: list[NDArray[np.uint8]] = []
    missing = length
    for chunk in chunks:
        first = 0
        while first < len(chunk.timestamps):
            part = slice(first, first + missing)
            times.append(chunk.timestamps[part])
            frames.append(chunk.frames[part])
            first += len(times[-1])
            missing -= len(times[-1])
            if missing == 0:
                yield _joined(times, frames)
                times, frames, missing = [], [], length
    if frames:
        yield _joined(times, frames)


def _joined(times: list[NDArray[np.float64]], frames: list[NDArray[np.uint8]]) -> TimedClip:
    if len(frames) == 1:
        return TimedClip(times[0], frames[0])
    return TimedClip(np.concatenate(times), np.concatenate(frames))


def _run_stages(
    engine: Engine,
    job: EngineJob,
    reader: VideoReader,
    stopwatch: Stopwatch,
    expected: int,
    progress: Callable[[Progress], None],
) -> Iterator[tuple[NDArray[np.float64], Tensors]]:
    """What the model makes of a video: timestamps (T,) and tensors (T, …), of a few frames or of all.

    Raises VideoUnreadable where there is not one frame.
    """
    times: list[NDArray[np.float64]] = []
    done: list[Tensors] = []
    count = 0
    for clip_times, outputs in job.run(clips(_timed(reader, stopwatch), engine.manifest.clip_length)):
        count += len(clip_times)
        progress(Progress(count, max(expected, count)))
        if engine.first_video_stage is None:
            yield clip_times, outputs
        else:
            times.append(clip_times)
            done.append(outputs)
    if done:
        yield np.concatenate(times), job.finish(done)
    if not count:
        raise VideoUnreadable("no frame of the video lies in the asked range; ask for a wider one or a higher fps")
    stopwatch.seconds["engine"] = job.waited


def _predictions(outputs: Tensors, vocabulary: Vocabulary, *, uncertain: bool) -> PairPredictions:
    left_out = frozenset[str]() if uncertain else {"epistemic", "aleatoric"}
    return PairPredictions.from_tensors({name: outputs[name] for name in outputs.keys() - left_out}, vocabulary)


def _noted(frames: Iterable[Frame], appearances: Appearances) -> Iterator[Frame]:
    for frame in frames:
        appearances.add(frame)
        yield frame


def _timed(reader: Iterable[FrameChunk], stopwatch: Stopwatch) -> Iterator[FrameChunk]:
    chunks = iter(reader)
    while True:
        with stopwatch.measure("decode"):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


@contextmanager
def _stopped_by(cancelled: Callable[[], bool] | None) -> Iterator[list[Callable[[], None]]]:
    """Calls what is in the list that it gives, from another thread, once `cancelled` says so.

    Waiting for a frame, or for an engine that others use, can take minutes.
    """
    stops: list[Callable[[], None]] = []
    if cancelled is None:
        yield stops
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_CANCEL_INTERVAL):
            if cancelled():
                for stop in list(stops):
                    stop()

    watcher = threading.Thread(target=watch, name="vsg-cancel", daemon=True)
    watcher.start()
    try:
        yield stops
    except Exception as error:
        if cancelled():  # whatever reader and engine say after they were stopped, this is the reason
            raise JobCancelled("the job was cancelled") from error
        raise
    finally:
        over.set()
        watcher.join()

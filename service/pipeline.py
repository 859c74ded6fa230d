"""A video file becomes its scene graph: decode, engine, graph, prompt."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle import sha256_of
from models.predictions import PairPredictions
from models.scene_graph import ModelReference, Options, SceneGraph, Video, Warning
from service.decoding import FrameChunk, Sampling, VideoInfo, VideoReader
from service.engine import Engine, Tensors
from service.errors import JobCancelled, UnknownModel, VideoUnreadable
from service.graph import build_frames
from service.options import VideoOptions
from service.prompt import build_prompt
from service.settings import Settings, decode_limits

_CANCEL_INTERVAL = 0.1  # seconds


@dataclass(frozen=True)
class Progress:
    """How far a run is: frames done of those expected, which is the most possible where no duration is known."""

    frames: int
    expected: int


@dataclass
class Stopwatch:
    """Adds up the seconds spent in each part."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, part: str, since: float) -> None:
        """Adds the time from `since` (of `time.perf_counter`) until now to a part."""
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - since


class Pipeline:
    """Turns videos into scene graphs. `run` may be called from several threads."""

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

    def run(
        self,
        path: Path,
        options: VideoOptions,
        *,
        video_id: str | None = None,
        sha256: str | None = None,
        progress: Callable[[Progress], None] = lambda progress: None,
        cancelled: Callable[[], bool] | None = None,
    ) -> SceneGraph:
        """Makes the scene graph of one video file; holds one clip of frames at a time, however long the video is.

        Of earlier clips it holds what the model's stages of span `video` and the graph need.

        video_id   names the graph; by default the beginning of the sha256
        sha256     of the file, where the caller knows it
        progress   is called after every clip
        cancelled  is asked ten times a second from another thread; once it says so, decoding stops at once

        Raises UnknownModel, a VideoError or UnsupportedMedia for what is wrong with the request, JobCancelled.
        """
        began = time.perf_counter()
        stopwatch = Stopwatch()
        engine = self.model(options.model)
        applied, warnings = options.applied(self._settings)
        sha256 = sha256_of(path) if sha256 is None else sha256

        reader = VideoReader(path, sampling_of(applied, engine), self._limits)
        since = time.perf_counter()
        with _stopped_by(cancelled, reader), reader:
            stopwatch.add("decode", since)  # starting the decoder is part of it
            info = reader.info
            expected = expected_frames(applied, info)
            progress(Progress(0, expected))
            timestamps: list[float] = []
            done: list[Tensors] = []
            for times, frames in clips(_timed(reader, stopwatch), engine.manifest.clip_length):
                since = time.perf_counter()
                done.append(engine.run(frames[np.newaxis], np.array([times], np.float32)))
                stopwatch.add("engine", since)
                timestamps.extend(times)
                progress(Progress(len(timestamps), max(expected, len(timestamps))))
                if cancelled is not None and cancelled():
                    raise JobCancelled("the job was cancelled")
        if not done:
            raise VideoUnreadable("no frame of the video lies in the asked range; ask for a wider one or a higher fps")

        since = time.perf_counter()
        predictions = PairPredictions.from_outputs(engine.finish(done))
        stopwatch.add("engine", since)

        since = time.perf_counter()
        if not applied.uncertainty:
            predictions = replace(predictions, epistemic=None, aleatoric=None)
        elif predictions.epistemic is None:
            detail = f"{engine.manifest.name!r} is a model that knows no uncertainty; its triplets carry none"
            warnings.append(Warning(code="no_uncertainty", detail=detail))
        frames_of_graph, relations = build_frames(
            predictions,
            np.array(timestamps),
            width=info.width,
            height=info.height,
            thresholds=engine.manifest.thresholds,
            min_score=applied.min_score,
            top_k=applied.top_k,
            constraint=applied.constraint,
            duration=info.duration,
        )
        prompt = build_prompt(frames_of_graph, relations, duration=info.duration)
        stopwatch.add("graph", since)
        stopwatch.add("total", began)
        return SceneGraph(
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
            frames=frames_of_graph,
            relations=relations,
            prompt=prompt,
            timings={part: round(seconds, 4) for part, seconds in stopwatch.seconds.items()},
            warnings=[*warnings, *reader.warnings],
        )


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


def clips(chunks: Iterable[FrameChunk], length: int) -> Iterator[tuple[list[float], NDArray[np.uint8]]]:
    """Regroups frames, as they arrive, into clips of `length` consecutive ones; the last may be shorter.

    Yields presentation times in seconds and frames (T, height, width, 3) uint8.
    """
    times: list[float] = []
    frames: list[NDArray[np.uint8]] = []
    for chunk in chunks:
        for timestamp, frame in zip(chunk.timestamps, chunk.frames, strict=True):
            times.append(float(timestamp))
            frames.append(frame)
            if len(frames) == length:
                yield times, np.stack(frames)
                times, frames = [], []
    if frames:
        yield times, np.stack(frames)


def _timed(reader: Iterable[FrameChunk], stopwatch: Stopwatch) -> Iterator[FrameChunk]:
    chunks = iter(reader)
    while True:
        since = time.perf_counter()
        chunk = next(chunks, None)
        stopwatch.add("decode", since)
        if chunk is None:
            return
        yield chunk


@contextmanager
def _stopped_by(cancelled: Callable[[], bool] | None, reader: VideoReader) -> Iterator[None]:
    """Closes the reader from another thread once `cancelled` says so: waiting for a frame can take minutes."""
    if cancelled is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_CANCEL_INTERVAL):
            if cancelled():
                reader.close()

    watcher = threading.Thread(target=watch, name="vsg-cancel", daemon=True)
    watcher.start()
    try:
        yield
    except Exception as error:
        if cancelled():  # whatever the reader says after it was closed, this is the reason
            raise JobCancelled("the job was cancelled") from error
        raise
    finally:
        over.set()
        watcher.join()

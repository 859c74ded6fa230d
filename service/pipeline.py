"""Turns a video file into its scene graph: decode, run the model, build graph and prompt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.engines import Tensors
from models.graph.bundle import sha256_of
from models.graph.predictions import PairPredictions
from models.graph.scene_graph import Frame, Options, SceneGraph, Video, Warning
from models.graph.vocabulary import Vocabulary
from service.errors import JobCancelled, ServiceError, UnknownModel
from service.graph import GraphBuilder, VideoGraph, write_graph
from service.options import VideoOptions
from service.prompt import Appearances, KeyFrame, build_prompt, telling_frames
from service.prompt.key_frames import read_sampled_frames
from service.scheduling import Scheduler, VideoRun
from service.stopwatch import Stopwatch
from service.video import DecodeLimits, FrameChunk, Sampling, VideoInfo, VideoReader
from service.video.errors import VideoUnreadable

_CANCEL_INTERVAL = 0.1  # seconds


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    frames: frames done.
    expected: frames that are sampled if all of them can be decoded.
    """

    frames: int
    expected: int


@dataclass(frozen=True)
class Summary:
    """A graph that has been written.

    model: name of the model that made it.
    frames: number of its frames.
    timings: seconds by part.
    """

    model: str
    frames: int
    timings: Mapping[str, float]


class Pipeline:
    """Turns videos into scene graphs. Thread-safe: several threads may call `write` and `run` at once.

    models: by name; the first is the default.
    """

    def __init__(
        self,
        models: Mapping[str, Scheduler],
        limits: DecodeLimits,
        *,
        max_fps: float,
        max_frames: int,
        kept_frames: int = 0,
    ) -> None:
        """
        models: by name, the default first; at least one.
        limits: of decoding one video.
        max_fps, max_frames: the most that a caller gets; more is lowered, with a warning in the graph.
        kept_frames: most sampled frames of a video that are kept as pictures, for callers that keep any.
        """
        self.models = models
        self._limits = limits
        self._max_fps = max_fps
        self._max_frames = max_frames
        self._kept_frames = kept_frames

    def model(self, name: str | None) -> Scheduler:
        """Finds a model by name; None means the default. Raises UnknownModel."""
        if name is None:
            return next(iter(self.models.values()))
        try:
            return self.models[name]
        except KeyError:
            served = ", ".join(self.models)
            raise UnknownModel("model", f"no model named {name[:80]!r} is served here; there is {served}") from None

    def close(self) -> None:
        """Ends the threads of all models."""
        for model in self.models.values():
            model.close()

    def run(self, path: Path, options: VideoOptions, **rest: Any) -> SceneGraph:
        """Returns the scene graph of one video file. Takes and raises what `write` does."""
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
        keep: Callable[[Mapping[int, KeyFrame]], Sequence[int]] | None = None,
    ) -> Summary:
        """Writes the scene graph of one video file as the JSON of `SceneGraph`.

        Decoding, model and graph run at the same time. Only a few clips of frames are in memory, however long the video
        is. The rest of the video takes what linking over time and the model's stages of span `video` need.

        video_id: names the graph; by default the first half of the sha256.
        sha256: of the file, if the caller knows it.
        progress: is called after every clip.
        cancelled: is asked ten times a second from another thread. Once it returns True, the run stops.
        keep: keeps the most telling sampled frames, which it gets by index, the most telling first.
            It returns the indices of those that it has kept.

        Raises UnknownModel, a VideoError or UnsupportedMedia when the request cannot be served, ClipFailed, EngineDied,
        and JobCancelled.
        """
        stopwatch = Stopwatch()
        model = self.model(options.model)
        applied, warnings = options.applied(max_fps=self._max_fps, max_frames=self._max_frames)
        sha256 = sha256_of(path) if sha256 is None else sha256
        reader = VideoReader(path, sampling_of(applied, model), self._limits)
        with ExitStack() as stack:
            stack.callback(stopwatch.trace, "decode")
            stops = stack.enter_context(_stopped_by(cancelled))
            stops.append(reader.close)
            with stopwatch.measure("decode"):  # starting the decoder is part of it
                stack.enter_context(reader)
            info = reader.info
            expected = max(1, reader.expected)
            progress(Progress(0, expected))
            spanned = model.manifest.frame_size.spanned((info.width, info.height))
            share = spanned[0] / info.width, spanned[1] / info.height  # 1 but where frames are padded
            run = stack.enter_context(VideoRun(model, expected, picture_size=spanned))
            stops.append(run.cancel)
            builder = GraphBuilder(
                vocabulary=model.manifest.vocabulary,
                width=info.width,
                height=info.height,
                thresholds=model.manifest.thresholds,
                scoring=model.manifest.scoring,
                statements=model.manifest.statements,
                min_score=applied.min_score,
                top_k=applied.top_k,
                constraint=applied.constraint,
                duration=info.duration,
                asked_interval=1.0 / applied.fps,
            )
            knows_uncertainty = False
            for times, outputs in _run_stages(model, run, reader, stopwatch, expected, progress):
                knows_uncertainty = "epistemic" in outputs
                with stopwatch.measure("graph"):
                    predictions = _predictions(outputs, model.manifest.vocabulary, uncertain=applied.uncertainty)
                    builder.add(predictions.with_boxes_scaled(*share), times)
            with stopwatch.measure("graph"):
                graph = builder.finish()
        if applied.uncertainty and not knows_uncertainty:
            detail = f"the model {model.manifest.name!r} gives no uncertainty, so the triplets carry none"
            warnings.append(Warning(code="no_uncertainty", detail=detail))
        warnings.extend(reader.warnings)
        since = time.perf_counter()
        appearances = Appearances()
        timings: dict[str, float] = {}

        def keep_frames() -> Sequence[int]:
            if keep is None or not self._kept_frames:
                return []
            with stopwatch.measure("keep"):
                pictures = self._read_telling_frames(path, info, graph, appearances, cancelled, warnings)
                return keep(pictures) if pictures else []

        def finish_timings() -> Mapping[str, float]:
            stopwatch.add("graph", since + stopwatch.seconds.get("keep", 0.0))
            timings.update(stopwatch.timings())
            return timings

        write_graph(
            out,
            id=sha256[:32] if video_id is None else video_id,
            video=Video(sha256=sha256, **asdict(info)),
            model=model.reference,
            options=applied,
            vocabulary=graph.vocabulary,
            frames=_noted(graph.frames(), appearances),
            relations=graph.relations,
            prompt=lambda: build_prompt(appearances, graph.relations, graph.vocabulary, duration=info.duration),
            kept_frames=keep_frames,
            timings=finish_timings,
            warnings=warnings,
        )
        stopwatch.trace("graph")
        return Summary(model.manifest.name, len(graph), timings)

    def _read_telling_frames(
        self,
        path: Path,
        video: VideoInfo,
        graph: VideoGraph,
        appearances: Appearances,
        cancelled: Callable[[], bool] | None,
        warnings: list[Warning],
    ) -> dict[int, KeyFrame]:
        """Decodes the most telling frames again, in a process with the same limits. Warns where that fails.

        Raises JobCancelled.
        """
        moments = graph.moments
        indices = telling_frames(appearances, graph.relations, graph.vocabulary, moments, self._kept_frames)
        try:
            with _stopped_by(cancelled) as stops:
                return read_sampled_frames(
                    path,
                    video,
                    {index: moments[index] for index in indices},
                    self._limits,
                    opened=lambda reader: stops.append(reader.close),
                )
        except JobCancelled:
            raise
        except ServiceError as error:
            warnings.append(Warning(code="frames_not_kept", detail=f"no frame is kept: {error.detail}"))
            return {}


def sampling_of(options: Options, model: Scheduler) -> Sampling:
    """Returns what to ask the decoder for: the times that the options name, at the model's frame size."""
    size = model.manifest.frame_size
    return Sampling(
        fps=options.fps,
        start=options.start,
        end=options.end,
        max_frames=options.max_frames,
        height=size.height,
        width=size.width,
        fit=size.fit,
    )


def clips(chunks: Iterable[FrameChunk], length: int) -> Iterator[FrameChunk]:
    """Regroups frames, as they arrive, into clips of `length` consecutive frames; the last clip may be shorter.

    A clip that lies within one chunk is a view of it.
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


def _joined(times: list[NDArray[np.float64]], frames: list[NDArray[np.uint8]]) -> FrameChunk:
    if len(frames) == 1:
        return FrameChunk(times[0], frames[0])
    return FrameChunk(np.concatenate(times), np.concatenate(frames))


def _run_stages(
    model: Scheduler,
    run: VideoRun,
    reader: VideoReader,
    stopwatch: Stopwatch,
    expected: int,
    progress: Callable[[Progress], None],
) -> Iterator[tuple[NDArray[np.float64], Tensors]]:
    """Yields timestamps (T,) and the model's tensors (T, …) of consecutive frames, in order.

    Raises VideoUnreadable when the video gives no frame.
    """

    def counted() -> Iterator[tuple[NDArray[np.float64], Tensors]]:
        count = 0
        for times, outputs in run.outputs(clips(_timed(reader, stopwatch), model.manifest.clip_length)):
            count += len(times)
            progress(Progress(count, max(expected, count)))
            yield times, outputs
        if not count:
            raise VideoUnreadable("no frame of the video lies in the asked range; ask for a wider one or a higher fps")
        if count < expected:  # the video is damaged
            progress(Progress(count, count))

    yield from counted() if model.first_video_stage is None else run.finish(counted())
    stopwatch.seconds["engine"] = run.waited


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
    """Yields a list of functions, and calls them from another thread once `cancelled` returns True.

    Without them, a run that waits for a frame, or for a model that others use, would go on for minutes.
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
        if cancelled():  # whatever reader and model raise after they were stopped, this is the reason
            raise JobCancelled("the job was cancelled") from error
        raise
    finally:
        over.set()
        watcher.join()

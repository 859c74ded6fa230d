"""`vsg bench`."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from service.commands.common import check_video, options_of, video_argument
from service.decoding import VideoReader
from service.engine import Engine, load_engines
from service.options import VideoOptions
from service.pipeline import Pipeline, clips, sampling_of
from service.settings import Settings, decode_limits, load_settings


@dataclass(frozen=True)
class Report:
    """One measurement of one bundle on one video; the same frames go through each of the three.

    frames               sampled
    decode_fps           frames per second of decoding and resizing alone
    engine_fps           of the engine alone, frames lying in memory
    whole_fps            of the whole, from file to graph
    speed                seconds of video per second of the whole
    peak_memory_mib      most memory of the whole: the peak of this process and that of its decoders
    """

    model: str
    engine: str
    precision: str
    video: str
    frames: int
    decode_fps: float
    engine_fps: float
    whole_fps: float
    speed: float
    peak_memory_mib: float


class PeakMemory:
    """Watches this process and its children while the context lasts; reads /proc, so Linux only.

    `resource.getrusage` would not do: it counts the parent's size at the moment of the start as the child's.
    """

    INTERVAL = 0.02  # seconds; a decoder lives longer

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vsg-memory", daemon=True)
        self._children = 0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mebibytes(self) -> float:
        """The peak of this process since it began, plus the largest sum of its children's."""
        return (_high_water_kib("self") + self._children) / 1024

    def _watch(self) -> None:
        while not self._over.wait(self.INTERVAL):
            self._children = max(self._children, sum(_high_water_kib(child) for child in _descendants("self")))


def _descendants(process: str) -> list[str]:
    found: list[str] = []
    for listing in Path("/proc", process, "task").glob("*/children"):
        for child in _read(listing).split():
            found += [child, *_descendants(child)]
    return found


def _high_water_kib(process: str) -> int:
    for line in _read(Path("/proc", process, "status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended since it was listed
        return ""


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@video_argument
@click.option("--fps", help="Frames sampled per second (2).")
@click.option("--max-frames", help="Most frames to sample.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(bundle: Path, video: Path, fps: str | None, max_frames: str | None, as_json: bool) -> None:
    """Measure where the time goes: decoding, engine, the whole, and memory."""
    settings = load_settings()
    options = options_of(fps=fps, max_frames=max_frames)
    check_video(video)
    report = measure(load_engines([bundle], threads=settings.threads), video, options, settings)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
        return
    title = f"{report.model} ({report.engine}, {report.precision}), {report.frames} frames of {report.video}"
    table = Table("", "frames / s", title=title)
    for name, value in (("decode", report.decode_fps), ("engine", report.engine_fps), ("whole", report.whole_fps)):
        table.add_row(name, f"{value:.1f}")
    console = Console()
    console.print(table)
    console.print(f"{report.speed:.1f} seconds of video per second; peak memory {report.peak_memory_mib:.0f} MiB")


def measure(models: Mapping[str, Engine], video: Path, options: VideoOptions, settings: Settings) -> Report:
    """Runs the whole, then decoding, then the engine.

    The whole comes first, because the frames that the engine is measured with would count into its peak of memory.
    """
    pipeline = Pipeline(models, settings)
    engine = pipeline.model(None)
    size, length = engine.manifest.frame_size, engine.manifest.clip_length
    nothing = np.zeros((1, length, size.height, size.width, 3), np.uint8)
    engine.finish([engine.run(nothing, np.zeros((1, length), np.float32))])  # the first run allocates

    with PeakMemory() as memory:
        began = time.perf_counter()
        graph = pipeline.run(video, options)
        whole = time.perf_counter() - began

    began = time.perf_counter()
    with VideoReader(video, sampling_of(graph.options, engine), decode_limits(settings)) as reader:
        batches = list(clips(reader, length))
    decode = time.perf_counter() - began

    began = time.perf_counter()
    engine.finish([engine.run(frames[np.newaxis], np.array([times], np.float32)) for times, frames in batches])
    inference = time.perf_counter() - began

    count = len(graph.frames)
    last = graph.frames[-1].timestamp - graph.frames[0].timestamp + 1 / graph.options.fps
    return Report(
        model=graph.model.name,
        engine=graph.model.engine,
        precision=graph.model.precision,
        video=video.name,
        frames=count,
        decode_fps=round(count / decode, 2),
        engine_fps=round(count / inference, 2),
        whole_fps=round(count / whole, 2),
        speed=round(last / whole, 2),
        peak_memory_mib=round(memory.mebibytes, 1),
    )

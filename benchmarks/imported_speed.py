"""Measures imported OED and `everyday` on all that runs here, within a given time.

    .venv/bin/python -m benchmarks.imported_speed [--seconds 540]
    .venv/bin/python -m benchmarks.imported_speed --seconds 90 --small --frame-size 96x64 --each 0.1    # a rehearsal

OED has the published sizes and random weights, which are as fast as the real ones. They are written as OED's code
writes them, and read as `vsg import oed` reads them. Each row is measured as by `vsg speed`, in turn with eager PyTorch
in fp32, and printed when it is there. An engine that took longer on the last network than there is time is skipped; one
that runs when the time is up is stopped. Both are named in the end.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import click
import torch

from benchmarks.speed.command import numbers, ways_named
from benchmarks.speed.measures import WAYS, Asked, Way, measure
from benchmarks.speed.report import HEADING, Row, cells_of, markdown_row
from benchmarks.speed.source import Source, open_source
from benchmarks.stolen_time import say_stolen
from export.errors import ExportError
from export.importing import FrameSize
from models.engines import EngineOptions, open_stages
from models.engines.opening import PRECISIONS
from models.errors import ModelError
from models.networks.checkpoint import save_checkpoint
from models.networks.oed import Oed, OedConfig
from models.networks.published.oed import KEPT_PAIRS, OPTION_OF_FIELD, import_oed, published_name
from service.cores import usable_cores

NETWORKS = ("oed-spatial", "oed-temporal", "everyday")
EVERYDAY = Path(__file__).parents[1] / "bundles" / "everyday"
SMALL: dict[str, Any] = {
    "backbone": "resnet18", "width": 32, "heads": 4, "feed_forward": 32,
    "encoder_layers": 1, "instance_layers": 1, "interaction_layers": 1,
}  # fmt: skip
"""Sizes of an OED that runs in milliseconds."""
_COLUMNS = ("network", *HEADING, "eager fp32 in that run")


class TimeIsUp(BaseException):
    """The time for all measurements is over. No `except Exception` around a measurement stops it."""


@dataclass(frozen=True)
class Step:
    """A network and an engine, which are measured in all precisions and batches."""

    source: Source
    way: Way

    def __str__(self) -> str:
        return f"{self.source.name}, {self.way.name}"


class Table:
    """Measures step by step and prints each row of Markdown when it is there.

    notes: what has no row, and why.
    """

    def __init__(self, batches: Sequence[int] | None, threads: int, seconds: float, deadline: float) -> None:
        """Takes how it is measured.

        batches: clips at once; None for 1 on a CPU and 1, 4 and 16 on a GPU.
        seconds: time for each measurement.
        deadline: time of `time.monotonic` by which all must be over.
        """
        self.notes: list[str] = []
        self.stolen = 0.0
        self._batches, self._threads, self._seconds, self._deadline = batches, threads, seconds, deadline
        self._took: dict[Way, float] = {}
        self._eager: dict[int, float] = {}
        self._has_rows = False

    def fill(self, steps: Sequence[Step]) -> None:
        """Measures all steps for which there is time."""
        left = list(steps)
        try:
            with _alarm(self._deadline):
                while left:
                    self._take(left[0])
                    left.pop(0)
        except TimeIsUp:
            self.notes += [f"{step}: stopped when the time was up" for step in left[:1]]
            self.notes += [f"{step}: skipped, no time was left" for step in left[1:]]

    def _take(self, step: Step) -> None:
        """Measures a step, unless it does not run here or took longer on the last network than there is time."""
        began = time.monotonic()
        left, last = self._deadline - began, self._took.get(step.way, 0.0)
        if last > left:
            self.notes.append(f"{step}: skipped, the last network took {last:.0f} s and {left:.0f} s were left")
            return
        try:
            self._measure(step)
        except (ExportError, ModelError) as error:
            self.notes.append(f"{step}: {error}")
        except Exception as error:  # a measurement that fails must not cost the others, for which a GPU is lent
            self.notes.append(f"{step}: {type(error).__name__}: {error}")
        self._took[step.way] = max(last, time.monotonic() - began)

    def _measure(self, step: Step) -> None:
        source, engine = step.source, step.way.engine
        batches = self._batches or ((1, 4, 16) if step.way.on_gpu else (1,))
        if not _is_torch(step.way):  # before eager PyTorch is measured beside an engine that is not here
            options = EngineOptions(threads=self._threads, max_batch=max(batches))
            open_stages(source.bundle(engine, "fp32", options), engine, options)
        self._eager.clear()
        asked = Asked([step.way], PRECISIONS[engine], batches, self._threads, self._seconds)

        def say(line: str) -> None:
            print(f"{source.name}: {line}", file=sys.stderr)

        report = measure(source, asked, say, lambda row: self._show(step, row))
        self.stolen = max(self.stolen, report.stolen)
        self.notes += [f"{source.name}, {each}" for each in report.missing if each.engine == step.way.name]

    def _show(self, step: Step, row: Row) -> None:
        """Prints a row; eager PyTorch's only where the step is about it."""
        if row.precision == "fp32" and row.engine in ("torch-cpu", "torch-cuda"):
            self._eager[row.batch] = row.fps
        if row.engine != step.way.name:
            return
        if not self._has_rows:
            print(markdown_row(_COLUMNS), markdown_row(["---"] * len(_COLUMNS)), sep="\n")
            self._has_rows = True
        eager = self._eager.get(row.batch)
        print(markdown_row([step.source.name, *cells_of(row), "" if eager is None else f"{eager:.4g}"]), flush=True)


@contextmanager
def _alarm(deadline: float) -> Iterator[None]:
    """Raises TimeIsUp in the context at a time of `time.monotonic`."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, deadline - time.monotonic()))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def make_oed(folder: Path, frame_size: tuple[int, int], clip_length: int, *, temporal: bool, small: bool) -> Source:
    """Writes a file as OED's code does, with random weights, and imports it.

    frame_size: height and width.
    """
    sizes = SMALL if small else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Oed(OedConfig(kept_pairs=KEPT_PAIRS if temporal else (), **sizes))
    args = argparse.Namespace(**{OPTION_OF_FIELD[field]: value for field, value in sizes.items()})
    name = "oed-temporal" if temporal else "oed-spatial"
    made = folder / f"{name}-{frame_size[1]}x{frame_size[0]}-{clip_length}{'-small' if small else ''}"
    made.mkdir(exist_ok=True)
    published, own = made / "published.pth", made / "checkpoint.pt"
    torch.save(
        {"model": {published_name(key): value for key, value in network.state_dict().items()}, "args": args}, published
    )
    save_checkpoint(own, import_oed(published, frame_size, clip_length), {"data": "none: random weights"})
    published.unlink()
    source = open_source(str(own), made)
    source.name = name
    return source


def steps_of(sources: Sequence[Source], ways: Sequence[Way]) -> list[Step]:
    """Returns what to measure, in order: PyTorch first, and last what compiles for minutes.

    PyTorch does not run a bundle that holds graphs alone. Where ways are on a GPU, only such a bundle is measured on
    the CPU too.
    """
    on_gpu = any(way.on_gpu for way in ways)
    steps = []
    for way in sorted(ways, key=lambda way: (way.graphs == "compile", not _is_torch(way))):
        for source in sources:
            is_graphs = source.network is None
            if not (is_graphs and _is_torch(way)) and (is_graphs or way.on_gpu == on_gpu):
                steps.append(Step(source, way))
    return steps


def _is_torch(way: Way) -> bool:
    return way.engine in ("torch-cpu", "torch-cuda")


def default_ways() -> list[Way]:
    """Returns everything for the GPU that torch sees, and ONNX Runtime on the CPU; without one, all for the CPU."""
    if not torch.cuda.is_available():
        return [way for way in WAYS if not way.on_gpu and way.graphs == "none"]
    return [way for way in WAYS if way.on_gpu or way.engine == "onnxruntime-cpu"]


@click.command(help=(__doc__ or "").partition("\n\n    ")[0])
@click.option("--seconds", type=click.FloatRange(1), default=540, show_default=True, help="Time for everything.")
@click.option("--each", type=click.FloatRange(0), default=2, show_default=True, help="Seconds for each measurement.")
@click.option("--networks", metavar="NAME,…", default=",".join(NETWORKS), show_default=True, help="What is measured.")
@click.option("--engines", metavar="NAME,…", help="As for `vsg speed`; by default all that may run here.")
@click.option("--batches", metavar="N,…", help="Clips at once; by default 1 on a CPU and 1,4,16 on a GPU.")
@click.option("--frame-size", type=FrameSize(), default="800x600", show_default=True, help="Frames of OED.")
@click.option("--clip-length", type=click.IntRange(2, 256), default=8, show_default=True, help="Frames of OED's clips.")
@click.option("--threads", type=click.IntRange(1), help="Threads of an engine on the CPU; by default one a core.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep networks and graphs here, so that the next run exports nothing again.",
)
@click.option("--small", is_flag=True, help="Give OED few layers, to rehearse on a CPU.")
def main(
    seconds: float,
    each: float,
    networks: str,
    engines: str | None,
    batches: str | None,
    frame_size: tuple[int, int],
    clip_length: int,
    threads: int | None,
    folder: Path | None,
    small: bool,
) -> None:
    """Runs the command line."""
    deadline = time.monotonic() + seconds
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"PyTorch {torch.__version__}, GPU: {gpu}, {usable_cores()} CPU cores\n", flush=True)
    if unknown := set(networks.split(",")) - set(NETWORKS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: take some of {', '.join(NETWORKS)}")
    with TemporaryDirectory(prefix="vsg-speed-") as name:
        kept = folder or Path(name)
        (kept / "everyday").mkdir(parents=True, exist_ok=True)
        size = (frame_size[1], frame_size[0])
        sources = [
            open_source(str(EVERYDAY), kept / "everyday")
            if network == "everyday"
            else make_oed(kept, size, clip_length, temporal=network == "oed-temporal", small=small)
            for network in networks.split(",")
        ]
        table = Table(numbers(batches), threads or usable_cores(), each, deadline)
        table.fill(steps_of(sources, ways_named(engines) if engines else default_ways()))
    print()
    for source in sources:
        shape = source.manifest.frame_size
        print(f"- {source.name}: clips of {source.manifest.clip_length} frames of {shape.width}x{shape.height}")
    print(
        "- everyday: its bundle holds graphs alone, which PyTorch does not run, so no row of it is times eager; in "
        "noise it finds nobody, so its pose network hardly runs"
    )
    for note in table.notes:
        print(f"- no row: {note}")
    if disturbed := say_stolen(table.stolen):
        print(f"- {disturbed}")


if __name__ == "__main__":
    main()

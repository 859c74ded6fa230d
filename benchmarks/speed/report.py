"""The report of `vsg speed`: as JSON, as a table, and as the tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.stolen_time import say_stolen


@dataclass(frozen=True)
class Row:
    """One engine in one precision at one batch size.

    fps: frames per second.
    ratio: speed relative to eager PyTorch in fp32 with the same batch on the same device in the same run; None where
        that did not run.
    ceiling: FLOP/s of a large square matrix product in the same precision on the same GPU; None on a CPU.
    share: the network's FLOP/s as a share of the ceiling.
    memory: bytes of the GPU that the engine took to run batches up to this one.
    """

    engine: str
    precision: str
    gpu: bool
    batch: int
    fps: float
    ratio: float | None
    ceiling: float | None = None
    share: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Missing:
    """Something that does not run here, and why.

    batch: the smallest that does not run; None where no batch does.
    """

    engine: str
    precision: str
    batch: int | None
    reason: str

    def __str__(self) -> str:
        batch = "" if self.batch is None else f", batch {self.batch}"
        return f"{self.engine} ({self.precision}{batch}): {self.reason}"


@dataclass(frozen=True)
class Report:
    """The measurements of one run.

    threads: threads of each engine on the CPU.
    seconds: time that each measurement took.
    stolen: share of the processors' time that the machine's host gave to other machines meanwhile.
    """

    source: str
    frame_width: int
    frame_height: int
    clip_length: int
    threads: int
    seconds: float
    gpu: str | None
    flops_per_frame: float | None
    rows: tuple[Row, ...]
    missing: tuple[Missing, ...]
    stolen: float

    def as_json(self) -> dict[str, Any]:
        """Returns the report as plain values."""
        return asdict(self)

    def as_markdown(self) -> str:
        """Returns Markdown tables: only ratios for a CPU, everything for a GPU."""
        parts = []
        if on_cpu := [row for row in self.rows if not row.gpu]:
            cells = [[row.engine, row.precision, str(row.batch), _times(row.ratio)] for row in on_cpu]
            parts.append(f"{self._network()}; CPU, {_threads(self.threads)}:\n\n{_markdown(_CPU_HEADING, cells)}")
        if on_gpu := [row for row in self.rows if row.gpu]:
            cells = [cells_of(row) for row in on_gpu]
            parts.append(f"{self._network()}; {self.gpu or 'GPU'}:\n\n{_markdown(HEADING, cells)}")
        missing = "\n".join(f"- not here: {each}" for each in self.missing)
        return "\n\n".join([*parts, *filter(None, [missing, say_stolen(self.stolen)])])

    def print(self, console: Console) -> None:
        """Prints a table, then what does not run and why."""
        console.print(f"{self._network()}; {_threads(self.threads)}, GPU: {self.gpu or 'none'}", highlight=False)
        table = Table(*HEADING)
        table.columns[0].no_wrap = True
        for row in self.rows:
            table.add_row(*cells_of(row))
        console.print(table)
        for each in self.missing:
            console.print(f"not here: {each}", markup=False, highlight=False)
        if disturbed := say_stolen(self.stolen):
            console.print(disturbed, highlight=False)

    def _network(self) -> str:
        flops = "" if self.flops_per_frame is None else f", {self.flops_per_frame / 1e9:.1f} GFLOP a frame"
        return f"{self.source}, clips of {self.clip_length} frames of {self.frame_width}x{self.frame_height}{flops}"


_CPU_HEADING = ["engine", "precision", "batch", "times eager"]
HEADING = ["engine", "precision", "batch", "frames/s", "times eager", "of ceiling", "GiB"]
"""Columns of a table for a GPU."""


def cells_of(row: Row) -> list[str]:
    """Returns the cells of a row under `HEADING`."""
    return [
        row.engine,
        row.precision,
        str(row.batch),
        f"{row.fps:.4g}",
        _times(row.ratio),
        "" if row.share is None else f"{row.share:.1%}",
        "" if row.memory is None else f"{row.memory / 2**30:.1f}",
    ]


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(map(markdown_row, [heading, ["---"] * len(heading), *rows]))


def markdown_row(cells: Sequence[str]) -> str:
    """Returns a line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"

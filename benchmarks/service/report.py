"""The report of `vsg bench`: as text, as JSON and as a plot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.errors import BenchError
from benchmarks.service.measures import EngineRate, Offline, Rate, TorchRate
from benchmarks.service.server import Load
from benchmarks.stolen_time import say_stolen


@dataclass(frozen=True)
class Report:
    """The measurements of one run; None where one was not asked for.

    stolen: share of the processors' time that the machine's host gave to other machines meanwhile.
    """

    model: str
    engine: str
    precision: str
    video: str
    cores: int
    streams: int
    max_batch: int
    stolen: float
    offline: Offline | None = None
    decode: Rate | None = None
    engine_only: EngineRate | None = None
    http: tuple[Load, ...] = ()
    torch: TorchRate | None = None

    def ratios(self) -> dict[str, float]:
        """Returns rates of this run as shares of each other, which can be compared between machines."""
        found: dict[str, float] = {}
        for load in self.http:
            if self.engine_only is not None:
                found[f"http_{load.clients}_to_engine_only"] = load.fps / self.engine_only.fps
            if self.torch is not None:
                found[f"http_{load.clients}_to_torch"] = load.fps / self.torch.fps
        if self.http:
            found[f"http_{self.http[-1].clients}_to_http_{self.http[0].clients}"] = self.http[-1].fps / self.http[0].fps
        if self.torch is not None and self.engine_only is not None:
            found["engine_only_to_torch"] = self.engine_only.fps / self.torch.fps
        return {name: round(value, 3) for name, value in found.items()}

    def as_json(self) -> dict[str, Any]:
        """Returns the report as plain values, rounded."""
        values = {name: value for name, value in asdict(self).items() if value is not None and value != ()}
        values["http"] = [
            {**asdict(load), "latency_p50": _percentile(load, 50), "latency_p95": _percentile(load, 95)}
            for load in self.http
        ]
        rounded: dict[str, Any] = _rounded(values)
        return rounded | {"ratios": self.ratios()}

    def print(self, console: Console) -> None:
        """Prints the report as tables."""
        table = Table("", "frames / s", "CPU ms / frame", "busy", "p50 s", "p95 s", "MiB", title=self._title())
        if self.decode is not None:
            table.add_row("decoding alone", *_cells(self.decode))
        if self.engine_only is not None:
            rate = self.engine_only
            table.add_row(f"engine alone, {rate.jobs} jobs", *_cells(rate), f"{rate.busy:.0%}")
        if self.offline is not None:
            table.add_row("offline", *_cells(self.offline), "", "", "", f"{self.offline.peak_memory_mib:.0f}")
        for load in self.http:
            table.add_row(
                f"HTTP, {load.clients} clients",
                f"{load.fps:.1f}",
                f"{load.service_cpu / load.frames * 1e3:.2f} *",
                f"{load.busy:.0%}",
                f"{_percentile(load, 50):.2f}",
                f"{_percentile(load, 95):.2f}",
                f"{load.peak_memory_mib:.0f}",
            )
        if self.torch is not None:
            table.add_row(f"eager PyTorch ({self.torch.weights} weights)", *_cells(self.torch))
        console.print(table)
        if self.http:
            console.print("* of the service's process: engine, HTTP and graph, without decoders")
        for load in self.http:
            console.print(f"batch sizes with {load.clients} clients: {load.batch_sizes}")
        for name, ratio in self.ratios().items():
            console.print(f"{name}: {ratio:.3f}")
        if disturbed := say_stolen(self.stolen):
            console.print(disturbed)

    def plot(self, path: Path) -> None:
        """Draws the rates and the latencies over HTTP. Raises BenchError where matplotlib is missing."""
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise BenchError(
                "--plot needs matplotlib; install it with: pip install 'video-scene-graph[plot]'"
            ) from error
        rates = {
            "decoding": self.decode,
            "engine": self.engine_only,
            "offline": self.offline,
            **{f"HTTP, {load.clients}": load for load in self.http},
            "PyTorch": self.torch,
        }
        known = {name: rate.fps for name, rate in rates.items() if rate is not None}
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.barh(list(known), list(known.values()))
        left.invert_yaxis()
        left.set_xlabel("frames per second")
        left.set_title(self._title(), fontsize=9)
        for load in self.http:
            shares = [(place + 1) / len(load.latencies) for place in range(len(load.latencies))]
            right.step(load.latencies, shares, where="post", label=f"{load.clients} clients")
        right.set_xlabel("seconds from request to answer")
        right.set_ylabel("share of videos")
        if self.http:
            right.legend()
        figure.savefig(path)

    def _title(self) -> str:
        return f"{self.model} ({self.engine}, {self.precision}) on {self.video}, {self.cores} cores"


def _cells(rate: Rate) -> tuple[str, str]:
    return f"{rate.fps:.1f}", f"{rate.cpu_ms:.2f}"


def _percentile(load: Load, percent: int) -> float:
    """Returns a percentile of the latencies by nearest rank."""
    return load.latencies[max(0, -(-percent * len(load.latencies) // 100) - 1)]


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 4)
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case list() | tuple():
            return [_rounded(each) for each in value]
    return value

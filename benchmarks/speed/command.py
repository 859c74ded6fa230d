"""`vsg speed`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, get_args

import click

from models.graph.bundle import Precision
from service.cores import usable_cores

if TYPE_CHECKING:
    from benchmarks.speed.measures import Way

_PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)


@click.command()
@click.argument("source")
@click.option("--engines", metavar="NAME,…", help="Engines to measure; by default all that run here.")
@click.option("--precisions", metavar="NAME,…", default=",".join(_PRECISIONS), show_default=True)
@click.option("--batches", metavar="N,…", help="Clips at once; by default 1 on a CPU and 1,2,4,8,16 on a GPU.")
@click.option(
    "--threads", type=click.IntRange(1), help="Threads of an engine on the CPU; by default one for each core."
)
@click.option("--seconds", type=click.FloatRange(0), default=5, show_default=True, help="Time for each measurement.")
@click.option(
    "--calibration",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Data folder to calibrate int8 on; noise by default, which gives the same speed.",
)
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Folder for what is exported.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print the tables of docs/performance.md.")
def speed(
    source: str,
    engines: str | None,
    precisions: str,
    batches: str | None,
    threads: int | None,
    seconds: float,
    calibration: Path | None,
    keep: Path | None,
    as_json: bool,
    markdown: bool,
) -> None:
    """Measure how fast every engine and precision runs one network.

    SOURCE is a bundle in fp32, a checkpoint, or `arn-r50`: the paper's ARN with random weights. Engines take turns, and
    eager PyTorch in fp32 always takes part. Other precisions are made only to measure their speed; `vsg export
    --precision` measures what they cost.
    """
    from rich.console import Console

    from benchmarks.speed.measures import Asked, measure
    from benchmarks.speed.source import open_source

    asked = Asked(
        ways=ways_named(engines),
        precisions=_precisions(precisions),
        batches=numbers(batches),
        threads=threads or usable_cores(),
        seconds=seconds,
    )
    if keep is not None and keep.is_dir() and any(keep.iterdir()):
        raise click.UsageError(f"--keep is {str(keep)!r}, which is not empty: name a new folder")
    with TemporaryDirectory() if keep is None else nullcontext(keep) as name:
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        opened = open_source(source, folder, calibration=calibration)
        report = measure(opened, asked, lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps(report.as_json()))
    elif markdown:
        click.echo(report.as_markdown())
    else:
        report.print(Console())


def ways_named(text: str | None) -> list[Way]:
    """Returns the engines of a list with commas; None for all. Raises click.UsageError where one is unknown."""
    from benchmarks.speed.measures import WAYS

    known = {way.name: way for way in WAYS}
    return [known[name] for name in _listed("--engines", text or ",".join(known), tuple(known))]


def _precisions(text: str) -> list[Precision]:
    """Returns the precisions that are asked for, fp32 first."""
    asked = _listed("--precisions", text, _PRECISIONS)
    return [precision for precision in _PRECISIONS if precision in asked]


def _listed(option: str, text: str, known: tuple[str, ...]) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"{option} has {unknown[0]!r}: choose from {', '.join(known)}")
    return names


def numbers(text: str | None) -> list[int] | None:
    """Returns the whole numbers of a list with commas, from 1 up. Raises click.UsageError where it holds others."""
    if text is None:
        return None
    numbers = [int(part) for part in text.split(",") if part.isdecimal()]
    if len(numbers) != len(text.split(",")) or min(numbers) < 1:
        raise click.UsageError(f"--batches is {text!r}: give whole numbers from 1 up with commas between them")
    return numbers

"""`vsg bench`."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console

from benchmarks.service.measures import Bench
from benchmarks.service.report import Report
from benchmarks.stolen_time import StolenTime
from service.commands.common import OutputFile, check_video, option_flags, read_options, settings_flags, video_argument
from service.cores import usable_cores
from service.settings import load_settings

_PARTS = ("offline", "decode", "engine", "http")


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@video_argument
@option_flags("fps", "max_frames")
@settings_flags("engine")
@click.option("--stub", type=float, metavar="MS", help="Use a stub that takes MS milliseconds for any batch.")
@click.option("--clients", default="1,8", show_default=True, metavar="N,…", help="Clients that post at once.")
@click.option("--videos", "videos_each", default=2, show_default=True, help="Videos that each client posts.")
@click.option("--only", type=click.Choice(_PARTS), multiple=True, help="Measure only this; may be repeated.")
@click.option("--compare", type=click.Choice(["torch"]), help="Measure eager PyTorch on the same model as well.")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Weights for --compare torch; random ones by default, which are as fast.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plot", type=OutputFile(), help="Draw the rates to this file.")
def bench(
    bundle: Path,
    video: Path,
    fps: str | None,
    max_frames: str | None,
    engine: str | None,
    stub: float | None,
    clients: str,
    videos_each: int,
    only: tuple[str, ...],
    compare: str | None,
    checkpoint: Path | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Measure where the time goes: decoding, engine, the whole, the service.

    One run measures with the same frames: decoding alone; the engine alone, fed from memory; the whole pipeline for one
    video without HTTP; and a service in a process of its own under the given numbers of clients. The settings (VSG_*)
    are those of `vsg serve`.
    """
    settings = load_settings(
        {"engine": engine} if stub is None else {"engine": "stub", "stub_seconds": stub / 1e3, "engine_cache": None}
    )
    check_video(video)
    parts = only or _PARTS
    counts = _numbers(clients)
    measured = Bench(bundle, video, read_options({"fps": fps, "max_frames": max_frames}), settings)
    with closing(measured), StolenTime() as stolen:
        offline = measured.offline() if "offline" in parts else None
        decode, clips = measured.decode() if {"decode", "engine"} & set(parts) else (None, [])
        engine_only = measured.run_engine(clips, jobs=max(counts)) if "engine" in parts else None
        http = measured.http(counts, videos_each=videos_each) if "http" in parts else []
        torch = measured.torch(checkpoint) if compare == "torch" else None
    report = Report(
        model=measured.model.manifest.name,
        engine=measured.model.engine,
        precision=measured.model.manifest.precision,
        video=video.name,
        cores=usable_cores(),
        streams=measured.model.streams,
        max_batch=measured.model.max_batch,
        stolen=stolen.share,
        offline=offline,
        decode=decode,
        engine_only=engine_only,
        http=tuple(http),
        torch=torch,
    )
    if plot is not None:
        report.plot(plot)
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        report.print(Console())


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--clients is {text!r}: give whole numbers with commas between them") from error
    if min(numbers) < 1:
        raise click.UsageError(f"--clients is {text!r}: give numbers from 1 up")
    return numbers

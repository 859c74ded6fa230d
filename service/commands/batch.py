"""`vsg batch`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import click
from rich.progress import MofNCompleteColumn, ProgressColumn, Task
from rich.text import Text

from models.graph.bundle import Bundle
from service.batch.listing import Shard, list_videos
from service.batch.making import Setup
from service.batch.running import RunsOn, Summary, default_processes, plan, run
from service.commands.common import flag_of, option_flags, progress_bar, read_options, read_settings, settings_flags
from service.errors import UnknownModel
from service.loading import bundle_folders
from service.options import VideoOptions
from service.settings import Settings


class _Rate(ProgressColumn):
    """Videos a second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.2f} a second")


class ShardType(click.ParamType[Shard]):
    """The type of `--shard`, such as 2/8."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        """Reads a shard, or fails with what is wrong."""
        number, slash, count = str(value).partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r}: give a number and the count of all, such as 1/8 or 8/8", param, ctx)
        return Shard(int(number), int(count))


def _spelled(name: str) -> str:
    """The flag of a setting or an option: `--engine` is taken by the engine of the batch."""
    return "--model-engine" if name == "engine" else flag_of(name)


@click.command()
@click.argument("source")
@click.option("--to", "archive", required=True, metavar="ARCHIVE", help="Folder or fsspec URL of the archive.")
@click.option(
    "--engine",
    "runs_on",
    type=click.Choice(get_args(RunsOn)),
    default="local",
    show_default=True,
    help="Processes of this machine, or Ray.",
)
@click.option("--address", help="Address of Ray's cluster. [default: RAY_ADDRESS, or this machine alone]")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Processes that hold a model each. [default: one a core, or a GPU; with Ray those of the cluster]",
)
@click.option("--limit", type=click.IntRange(min=1), help="Most videos to do now.")
@click.option("--shard", type=ShardType(), help="Part of the source to do, such as 2/8.")
@click.option("--frames", "with_frames", is_flag=True, help="Keep boxes and triplets of every sampled frame too.")
@click.option("--retry-problems", "retries_problems", is_flag=True, help="Do videos again that have a problem.")
@settings_flags("engine", "bundles", spelled=_spelled)
@option_flags(*VideoOptions.model_fields)
def batch(
    source: str,
    archive: str,
    runs_on: RunsOn,
    address: str | None,
    processes: int | None,
    limit: int | None,
    shard: Shard | None,
    with_frames: bool,
    retries_problems: bool,
    engine: str | None,
    bundles: tuple[str, ...] | None,
    **texts: str | None,
) -> None:
    """Write the scene graphs of many videos to an archive in Parquet.

    SOURCE is a folder, a glob, a text file with a path on each line, or a URL such as s3://BUCKET/PREFIX. Run the same
    command again to go on where it was stopped: videos that the archive has are left out.
    """
    options = read_options(texts)
    settings = shared_out(
        read_settings({"engine": engine, "bundles": bundles}, spelled=_spelled), runs_on=runs_on, processes=processes
    )
    bundle = bundle_of(settings, options.model)
    setup = Setup.of(settings, archive, bundle, options, with_frames=with_frames)
    planned = plan(setup, list_videos(source), shard=shard, limit=limit, retries_problems=retries_problems)
    summary = Summary(planned.listed, planned.done_before)
    with progress_bar(MofNCompleteColumn(), _Rate()) as bar:
        task = bar.add_task("videos", total=len(planned.todo))

        def show(now: Summary) -> None:
            nonlocal summary
            summary = now
            bar.update(task, completed=now.graphs + now.problems.total())

        try:
            run(planned, runs_on=runs_on, processes=processes, address=address, progress=show)
        finally:
            bar.stop()
            click.echo(summary.in_words())


def bundle_of(settings: Settings, model: str | None) -> Path:
    """The folder of the model that the options name, or of the first one. Raises UnknownModel and NoModels."""
    folders = bundle_folders(settings)
    if model is None:
        return folders[0]
    names = [Bundle.load(folder).manifest.name for folder in folders]
    if model not in names:
        raise UnknownModel("model", f"--model is {model!r:.80}: give one of {', '.join(names)}")
    return folders[names.index(model)]


def shared_out(settings: Settings, *, runs_on: RunsOn, processes: int | None) -> Settings:
    """The settings of one process of several: it runs one video, with its part of the cores."""
    count = processes or default_processes(settings)
    threads = 1 if runs_on == "ray" else max(1, len(os.sched_getaffinity(0)) // count)
    return settings.model_copy(update={"streams": settings.streams or 1, "threads": settings.threads or threads})

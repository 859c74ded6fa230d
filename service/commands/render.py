"""`vsg render`."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import click
from rich.progress import TaskProgressColumn

from models.graph.bundle import sha256_of
from models.graph.scene_graph import SceneGraph
from service.commands.common import (
    FILE_OR_STANDARD_INPUT,
    STANDARD_INPUT,
    OutputFile,
    graph_options,
    make_graph,
    progress_bar,
    read_graph,
    video_argument,
    video_file,
    whole_file,
)
from service.rendering import render_frame, render_video
from service.settings import decode_limits, load_settings
from service.video import DecodeLimits


@click.command()
@video_argument
@click.argument("graph", type=FILE_OR_STANDARD_INPUT, required=False)
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    required=True,
    help="A video, *.mp4, or one frame beside its graph, *.png.",
)
@click.option("--at", type=click.FloatRange(min=0), metavar="SECONDS", help="Which frame; for *.png.")
@click.option("--scale", type=click.IntRange(1, 16), default=1, show_default=True, help="Enlarges a small video.")
@graph_options
def render(
    video: Path,
    graph: Path | None,
    output: Path,
    at: float | None,
    scale: int,
    engine: str | None,
    bundles: tuple[str, ...] | None,
    **texts: str | None,
) -> None:
    """Draw a scene graph on its video, or one frame beside its graph.

    GRAPH is the JSON of `vsg graph` or of the API; without it the graph is made first, with the options that `vsg
    graph` has. Every frame of the video is drawn: between the sampled frames boxes move evenly, and the triplets are
    those of the last sampled frame. VIDEO or GRAPH may be -, which reads standard input.
    """
    if (kind := output.suffix.lower()) not in (".mp4", ".png"):
        raise click.UsageError(f"-o {output} must end in .mp4 (the video) or .png (one frame)")
    if (kind == ".png") != (at is not None):
        raise click.UsageError("--at SECONDS says which frame to draw: a .png needs it, a .mp4 has all frames")
    if STANDARD_INPUT == video == graph:
        raise click.UsageError("VIDEO and GRAPH are both -, but standard input holds only one of them")
    if video != STANDARD_INPUT and output.exists() and output.samefile(video):
        raise click.UsageError(f"-o {output} is the video itself; choose another name")
    if graph is not None and (engine or bundles or any(text is not None for text in texts.values())):
        raise click.UsageError("the options that make a graph are of no use with GRAPH; leave one or the other out")
    limits = decode_limits(load_settings())
    with video_file(video) as path:
        if graph is None:
            made = BytesIO()
            make_graph(path, made, engine=engine, bundles=bundles, texts=texts)
            known = SceneGraph.model_validate_json(made.getvalue())
        else:
            known = read_graph(graph)
            if known.video.sha256 != sha256_of(path):
                click.echo(f"Warning: {graph} was made of another file than {video}, if of the same size", err=True)
        draw(path, known, output, at=at, scale=scale, limits=limits)


def draw(video: Path, known: SceneGraph, output: Path, *, at: float | None, scale: int, limits: DecodeLimits) -> None:
    """Writes the video with its graph, under a progress bar, or the one frame that is on display at `at` seconds."""
    with whole_file(output) as part:
        if at is not None:
            render_frame(video, known, at, scale=scale, limits=limits).save(part, format="PNG")
            return
        with progress_bar(TaskProgressColumn()) as bar:
            task = bar.add_task("drawing", total=known.video.duration)
            render_video(
                video,
                known,
                part,
                lambda seconds: bar.update(task, completed=seconds),
                scale=scale,
                sound=True,
                limits=limits,
            )

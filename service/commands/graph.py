"""`vsg graph`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from models.engines import ENGINES
from service.batching import load_engines
from service.commands.common import check_video, frames_bar, open_output, options_of, video_argument
from service.pipeline import Pipeline
from service.settings import bundle_folders, load_settings


@click.command()
@video_argument
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File; default: standard output.")
@click.option("--engine", help=f"What runs the model: {', '.join(ENGINES)}.")
@click.option("--bundle", "bundles", type=click.Path(path_type=Path), multiple=True, help="Bundle; may be repeated.")
@click.option("--model", help="Name of the model; default: the first.")
@click.option("--fps", help="Frames sampled per second (2).")
@click.option("--start", help="Seconds from the beginning where sampling starts (0).")
@click.option("--end", help="Seconds from the beginning where it ends.")
@click.option("--max-frames", help="Most frames to sample.")
@click.option("--min-score", help="Least score of a triplet (0).")
@click.option("--top-k", help="Most triplets per frame (20).")
@click.option("--constraint", help="with, semi or no (with).")
@click.option("--uncertainty", is_flag=True, flag_value="true", default=None, help="Add the model's uncertainty.")
def graph(video: Path, output: Path | None, engine: str | None, bundles: tuple[Path, ...], **texts: str | None) -> None:
    """Make the scene graph of a video file, as JSON with one frame on a line."""
    settings = load_settings({"bundles": bundles or None, "engine": engine})
    options = options_of(**texts)
    check_video(video)
    with (
        closing(Pipeline(load_engines(bundle_folders(settings), settings), settings)) as pipeline,
        open_output(output) as out,
        frames_bar() as show,
    ):
        pipeline.write(video, options, out, progress=show)
        out.write(b"\n")

"""`vsg graph`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import get_args

import click

from service.commands.common import graph_options, make_graph, open_output, video_argument
from service.formats import Format, formatted, parse_format

_BLOCK = 1 << 18  # bytes


@click.command()
@video_argument
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File; default: standard output.")
@click.option("--format", "form", default="json", help=f"{', '.join(get_args(Format))} (json).")
@graph_options
def graph(
    video: Path,
    output: Path | None,
    form: str,
    engine: str | None,
    bundles: tuple[str, ...] | None,
    **texts: str | None,
) -> None:
    """Make the scene graph of a video file, as JSON with one frame on a line."""
    chosen = parse_format(form)
    with open_output(output) as out:
        if chosen == "json":
            make_graph(video, out, engine=engine, bundles=bundles, texts=texts)
            out.write(b"\n")
            return
        with TemporaryFile() as stored:
            make_graph(video, stored, engine=engine, bundles=bundles, texts=texts)
            stored.seek(0)
            out.writelines(formatted(iter(partial(stored.read, _BLOCK), b""), chosen))

"""`vsg graph`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import get_args

import click

from service.commands.common import OutputFile, graph_options, make_graph, open_output, video_argument, video_file
from service.formats import Format, formatted, parse_format

_BLOCK = 1 << 18  # bytes
_ENDINGS: dict[str, Format] = {".coco.json": "coco", ".jsonl": "jsonl", ".graphml": "graphml"}


@click.command()
@video_argument
@click.option("-o", "--output", type=OutputFile(), help="File; default: standard output.")
@click.option(
    "--format", "form", help=f"{', '.join(get_args(Format))} (by the ending of the file: {', '.join(_ENDINGS)}; json)."
)
@graph_options
def graph(
    video: Path,
    output: Path | None,
    form: str | None,
    engine: str | None,
    bundles: tuple[str, ...] | None,
    **texts: str | None,
) -> None:
    """Make the scene graph of a video file, as JSON with one frame on a line.

    VIDEO may be -, which reads standard input.
    """
    chosen = format_of(output) if form is None else parse_format(form)
    with video_file(video) as path, open_output(output) as out:
        if chosen == "json":
            make_graph(path, out, engine=engine, bundles=bundles, texts=texts)
            out.write(b"\n")
            return
        with TemporaryFile() as stored:
            make_graph(path, stored, engine=engine, bundles=bundles, texts=texts)
            stored.seek(0)
            out.writelines(formatted(iter(partial(stored.read, _BLOCK), b""), chosen))


def format_of(output: Path | None) -> Format:
    """The format that the ending of a file stands for; JSON where it stands for none."""
    name = "" if output is None else output.name.lower()
    return next((form for ending, form in _ENDINGS.items() if name.endswith(ending)), "json")

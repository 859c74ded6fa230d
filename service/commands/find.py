"""`vsg find`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn
from rich.table import Table

from service.archive.folder import ArchiveFolder
from service.commands.common import progress_bar
from service.errors import ServiceError
from service.rendering.clips import write_clip
from service.search.errors import QueryError
from service.search.moments import Moment, Moments, find_moments, words_of
from service.search.queries import parse
from service.search.words import LABEL_GROUPS
from service.settings import decode_limits, load_settings


class GroupType(click.ParamType[tuple[str, tuple[str, ...]]]):
    """The type of `--group`, such as vessel=cup,dish."""

    name = "name=label,label"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads a group, or fails with what is wrong."""
        name, equals, labels = str(value).partition("=")
        words = tuple(label.strip() for label in labels.split(",") if label.strip())
        if not (name.strip() and equals and words):
            self.fail(f"{value!r}: give a name and labels, such as vessel=cup,dish", param, ctx)
        return name.strip(), words


@click.command()
@click.argument("archive")
@click.argument("query")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most moments to show.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="How many moments to pass over.")
@click.option("--group", "groups", type=GroupType(), multiple=True, help="A group of labels. [may be repeated]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--clips",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to cut the moments that are shown into, as videos.",
)
def find(
    archive: str,
    query: str,
    limit: int,
    offset: int,
    groups: tuple[tuple[str, tuple[str, ...]], ...],
    as_json: bool,
    clips: Path | None,
) -> None:
    """Find moments in an archive of scene graphs.

    QUERY is such as 'person a holding phone during a sitting_on bed'; docs/search.md explains the language.
    """
    folder = ArchiveFolder(archive)
    words = words_of(folder, label_groups={**LABEL_GROUPS, **dict(groups)})
    try:
        understood = parse(query, words)
    except QueryError as error:
        raise click.ClickException(f"{error}\n{error.pointer}") from error
    found = find_moments(folder, understood, limit=limit, offset=offset)
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False, indent=2))
    else:
        show(found, offset)
    if clips is not None:
        cut(found.moments, clips)


def show(found: Moments, offset: int) -> None:
    """Prints moments as a table, and how many more there are."""
    console = Console()
    if found.moments:
        table = Table("video", "time", "score", "objects", box=None, header_style="bold", pad_edge=False)
        for moment in found.moments:
            objects = ", ".join(f"{name} {_ids(ids)}" for name, ids in moment.objects.items())
            time = f"{moment.start:g} to {moment.end:g} s"
            table.add_row(moment.path or moment.graph_id or moment.video, time, f"{moment.score:.2f}", objects)
        console.print(table)
    shown = f", {offset + 1} to {offset + len(found.moments)} shown" if len(found.moments) < found.total else ""
    console.print(f"{found.total} {'moment' if found.total == 1 else 'moments'}{shown if found.moments else ''}")


def cut(moments: Sequence[Moment], folder: Path) -> None:
    """Writes moments as videos, under a progress bar, and names those whose video cannot be read."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = decode_limits(load_settings())
    with progress_bar(MofNCompleteColumn()) as bar:
        task = bar.add_task("clips", total=len(moments))
        for moment in moments:
            try:
                if moment.path is None:
                    raise FileNotFoundError("it was posted, and its video is not kept")
                write_clip(Path(moment.path), folder / clip_name(moment), moment.start, moment.end, limits)
            except (OSError, ServiceError) as error:
                (folder / clip_name(moment)).unlink(missing_ok=True)
                name = moment.path or moment.graph_id or moment.video
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                click.echo(f"Warning: {name} gives no clip: {reason}", err=True)
            bar.advance(task)


def clip_name(moment: Moment) -> str:
    """The name of a moment's file: of its video, and the time."""
    stem = Path(moment.path or moment.video).stem
    return f"{stem}_{moment.start:g}-{moment.end:g}s.mp4"


def _ids(ids: int | tuple[int, ...]) -> str:
    return " ".join(map(str, ids)) if isinstance(ids, tuple) else str(ids)

"""`vsg data`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from training.data.check import Report
    from training.data.relations.formats import FormatName, RelationCounts

_FORMATS = ("action-genome", "cad120", "cvat", "hico-det", "label-studio", "open-images", "v-coco", "vrd")
_SHOWN = 20
"""Problems and warnings that are printed without --json."""


@click.group()
def data() -> None:
    """Make and check data folders."""


@data.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, however much it is.")
@click.pass_context
def check(context: click.Context, root: Path, as_json: bool) -> None:
    """Say what is wrong with a data folder or a file of relations, and what it holds.

    ROOT is a folder laid out like Action Genome, or a file that `vsg data relations` writes. The exit code is 1 if
    anything is wrong.
    """
    from training.data.check import check_data

    if root.is_file():
        _check_relations(context, root, as_json)
    report = check_data(root)
    click.echo(json.dumps(report.as_json(), indent=1) if as_json else _text(report))
    context.exit(0 if report.ok else 1)


@data.command()
@click.argument("root", metavar="OUT", type=click.Path(file_okay=False, path_type=Path))
@click.option("--world", type=click.Choice(["demanding", "easy"]), default="demanding", show_default=True)
@click.option("--train-videos", type=click.IntRange(0), default=400, show_default=True)
@click.option("--test-videos", type=click.IntRange(0), default=100, show_default=True)
@click.option("--frames-per-video", type=click.IntRange(3), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed gives the same set.")
@click.option("--videos", is_flag=True, help="Write the videos too, not only their annotated frames.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="Processes that render.")
def puppets(
    root: Path,
    world: str,
    train_videos: int,
    test_videos: int,
    frames_per_video: int,
    seed: int,
    videos: bool,
    processes: int,
) -> None:
    """Make Puppet Genome, the synthetic data set.

    OUT must be new or empty; it gets the layout of Action Genome.
    """
    from training.data.puppets.dataset import write_dataset
    from training.data.puppets.world import WORLDS
    from training.errors import DataError

    if root.exists() and any(root.iterdir()):
        raise DataError(f"{root} is not empty: name a new folder, so that two sets do not mix")
    with _progress_bar() as bar:
        task = bar.add_task("videos", total=train_videos + test_videos)
        write_dataset(
            root,
            WORLDS[world],
            train_videos=train_videos,
            test_videos=test_videos,
            frames_per_video=frames_per_video,
            seed=seed,
            write_videos=videos,
            processes=processes,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    click.echo(f"{root}: {train_videos} training and {test_videos} test videos of the {world} world, seed {seed}")


@data.command()
@click.argument("root", type=click.Path(file_okay=False, path_type=Path))
@click.option("--all", "every", is_flag=True, help="Write every frame, not only those that the annotations name.")
@click.option("--stride", type=click.IntRange(1), help="Write the frames 1, 1 + N, 1 + 2N, … too.", metavar="N")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="Processes that decode.")
@click.pass_context
def frames(context: click.Context, root: Path, every: bool, stride: int | None, processes: int) -> None:
    """Dump the frames of Action Genome's videos.

    ROOT holds `annotations` and `videos`, and gets `frames`. Videos that are done are skipped, so a dump that was
    stopped goes on where it was. The exit code is 1 if a video is missing or broken; the others are dumped all the
    same.
    """
    from training.data.frame_dump import dump_frames

    with _progress_bar() as bar:
        task = bar.add_task("videos", total=None)
        problems = dump_frames(
            root,
            stride=1 if every else stride,
            processes=processes,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for problem in problems:
        click.echo(f"Problem: {problem}")
    click.echo(f"{root}: {len(problems)} videos could not be dumped" if problems else f"{root} has all its frames")
    context.exit(1 if problems else 0)


@data.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(_FORMATS))
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
def relations(form: FormatName, files: tuple[Path, ...], out: Path) -> None:
    """Turn another data set's annotations into relations without pixels.

    FORMAT is action-genome (data folders), cad120, hico-det (hicodet's or HAKE's instances; HAKE's with
    hico_hoi_list.txt), open-images (annotations and table of classes), v-coco or vrd; or cvat or label-studio, for
    graphs of `vsg archive export` that were corrected there. OUT gets a JSON line for each picture.
    """
    from training.data.relations.formats import FORMATS, count_relations
    from training.data.relations.record import write_records

    write_records(out, FORMATS[form](files))
    click.echo(_relations_text(out, count_relations(out)))


@data.command()
@click.argument("names", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--encoder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of all-MiniLM-L6-v2, as transformers saves it.",
)
def names(names: Path, out: Path, encoder: Path) -> None:
    """Add names of things to the table of embeddings that comes with the project.

    NAMES has a name on each line. OUT is a .npz file for `vsg join --name-table` and `relations.name_table`. This needs
    the package transformers.
    """
    from training.data.names import extend_name_table

    lines = [line.strip() for line in names.read_text(encoding="utf-8").splitlines()]
    count = extend_name_table([line for line in lines if line], encoder, out)
    click.echo(f"wrote {out}: {count} new names")


def _check_relations(context: click.Context, path: Path, as_json: bool) -> None:
    from training.data.relations.formats import count_relations

    counts = count_relations(path)
    click.echo(json.dumps(counts.as_json(), indent=1) if as_json else _relations_text(path, counts))
    context.exit(0 if counts.problem is None else 1)


def _relations_text(path: Path, counts: RelationCounts) -> str:
    lines = [f"Problem: {counts.problem}"] if counts.problem else []
    lines.append(
        f"{counts.pictures} pictures, of them of {counts.videos} videos; {counts.pairs} pairs, "
        f"{counts.unrelated} of them unrelated"
    )
    lines += [f"  {name:<20}{counts.holding[name]:>9} of {counts.asked[name]} asked" for name in sorted(counts.asked)]
    lines.append(f"{path} is in order" if counts.problem is None else f"{path} is not in order")
    return "\n".join(lines)


def _progress_bar() -> Progress:
    """A bar on standard error that counts videos; silent where that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("videos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _text(report: Report) -> str:
    """The report as lines; of many problems only the first ones."""
    lines = []
    for kind, found in (("Problem", report.problems), ("Warning", report.warnings)):
        lines += [f"{kind}: {message}" for message in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"{kind}: {len(found) - _SHOWN} more; --json lists them all")
    for split, counts in report.splits.items():
        lines.append(
            f"{split}: {counts.videos} videos, {counts.frames} frames, {counts.objects} objects, "
            f"{sum(counts.predicates.values())} relations; left out: {counts.frames_without_object} frames without a "
            f"visible object, {counts.frames_without_person} without a person, {counts.short_videos} short videos"
        )
        lines += [f"  {predicate:<20}{count:>9}" for predicate, count in counts.predicates.items() if count]
    lines.append(f"{report.root} is in order" if report.ok else f"{report.root} has {len(report.problems)} problems")
    return "\n".join(lines)

"""What commands that take a video share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from service.decoding import SNIFF_BYTES, sniff_container
from service.errors import EmptyUpload
from service.options import OPTION_NAMES, VideoOptions, parse_options
from service.pipeline import Progress
from service.settings import Settings

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter from another. With Python's 5 ms an engine's thread, which wants it back
several times for every batch, waits longer for those of the jobs than the batch takes."""


def configure_logging(settings: Settings) -> None:
    """Writes the log of a process to standard error, from the operator's level up."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
    )


def video_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument VIDEO, a file that exists."""
    return click.argument("video", type=click.Path(exists=True, dir_okay=False, path_type=Path))(function)


def options_of(**texts: str | None) -> VideoOptions:
    """Options of the command line, read by the same rules as those of a request. Raises InvalidOption."""
    return parse_options({name: text for name, text in texts.items() if text is not None and name in OPTION_NAMES})


def check_video(path: Path) -> None:
    """Looks at the first bytes, as the API does before it takes a job. Raises EmptyUpload or UnsupportedMedia."""
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    if not head:
        raise EmptyUpload(f"{path} has no bytes")
    sniff_container(head)


@contextmanager
def frames_bar() -> Iterator[Callable[[Progress], None]]:
    """A bar on standard error that shows the progress of a pipeline, which the function that it gives is to be told."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("frames")
        yield lambda progress: bar.update(task, completed=progress.frames, total=progress.expected)


@contextmanager
def open_output(output: Path | None) -> Iterator[BinaryIO]:
    """A file to write into, which appears whole or not at all, or standard output."""
    if output is None:
        yield sys.stdout.buffer
        return
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, output)
    finally:
        part.unlink(missing_ok=True)

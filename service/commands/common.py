"""The flags of the commands, and what commands that take a video share.

Flags are made from the fields of `Settings` and `VideoOptions`. A command gets them as texts, so that they are read
like environment variables and requests.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, TypeVar

import click
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

import vsg
from models.graph.scene_graph import SceneGraph
from models.graph.validation import accepted_values, in_words
from service.errors import EmptyUpload, InvalidOption
from service.loading import bundle_folders, open_pipeline
from service.options import VideoOptions
from service.pipeline import Progress
from service.settings import Settings, load_settings, variable_of
from service.video import SNIFF_BYTES, sniff_container

STANDARD_INPUT = Path("-")
FILE_OR_STANDARD_INPUT = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
video_argument = click.argument("video", type=FILE_OR_STANDARD_INPUT)
"""The argument VIDEO, a file that exists or `-`; `video_file` opens it."""
# How long a thread may keep the interpreter from another. With Python's 5 ms an engine's thread, which needs it several
# times for every batch, would wait longer for the jobs' threads than the batch takes.
SWITCH_SECONDS = 0.0005
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Settings whose flag is not their name.
_FLAGS = {
    "bundles": "--bundle",
    "queue_url": "--redis",
    "caption_base_url": "--base-url",
    "caption_model": "--model",
    "caption_seconds": "--timeout",
}

Command = TypeVar("Command", bound=Callable[..., Any])


def flag_of(name: str) -> str:
    """The flag of a setting or an option."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def settings_flags(*names: str, spelled: Callable[[str], str] = flag_of) -> Callable[[Command], Command]:
    """Gives a command flags for these settings, which it passes on to `read_settings`.

    spelled: names the flag of a setting.
    """
    return _flags(Settings, names, spelled)


def option_flags(*names: str) -> Callable[[Command], Command]:
    """Gives a command flags for these options of a video, which it passes on to `read_options`."""
    return _flags(VideoOptions, names, flag_of)


def read_options(texts: Mapping[str, str | None]) -> VideoOptions:
    """The options of a command line; None means not given. Raises InvalidOption, which names the flag."""
    given = {name: text for name, text in texts.items() if text is not None}
    return VideoOptions.from_texts(given, spelled=flag_of)


def read_settings(flags: Mapping[str, Any], *, spelled: Callable[[str], str] = flag_of) -> Settings:
    """The settings under these flags; None means not given. Raises SettingsError, which names the flag.

    spelled: names the flag of a setting.
    """
    return load_settings(flags, spelled=spelled)


def _flags(
    model: type[BaseModel], names: tuple[str, ...], spelled: Callable[[str], str]
) -> Callable[[Command], Command]:
    schemas = model.model_json_schema()["properties"]

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            kind = schemas[name].get("type")
            command = click.option(
                spelled(name),
                name,
                help=_help(model, name, schemas[name]),
                is_flag=kind == "boolean",
                flag_value="true" if kind == "boolean" else None,
                multiple=kind == "array",
                default=None,
                callback=lambda context, option, value: None if value == () else value,
            )(command)
        return command

    return decorate


def _help(model: type[BaseModel], name: str, schema: Mapping[str, Any]) -> str:
    description, default, accepted = schema["description"], schema["default"], accepted_values(model, name)
    notes = [] if accepted in ("a text", "true or false") else [accepted]
    if schema.get("type") == "array":
        notes.append("may be repeated")
    if default not in (None, "", [], False):
        notes.append(f"default: {default:.15g}" if isinstance(default, float) else f"default: {default}")
    if model is Settings:
        notes.append(variable_of(name))
    return f"{description[0].upper()}{description[1:]}." + (f" [{'; '.join(notes)}]" if notes else "")


@contextmanager
def video_file(video: Path) -> Iterator[Path]:
    """The path of a video: that of VIDEO, or of a temporary file with what standard input holds.

    Raises EmptyUpload or UnsupportedMedia, by the first bytes, as the API does before it takes a job.
    """
    if video != STANDARD_INPUT:
        check_video(video)
        yield video
        return
    with NamedTemporaryFile(prefix="vsg-") as file:  # decoders need a file, since MP4 is not read from front to back
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        if not file.tell():
            raise EmptyUpload("standard input has no bytes; pipe a video into it")
        check_video(Path(file.name))
        yield Path(file.name)


def check_video(path: Path) -> None:
    """Looks at the first bytes of a file. Raises EmptyUpload or UnsupportedMedia."""
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    if not head:
        raise EmptyUpload(f"{path} has no bytes")
    sniff_container(head)


def graph_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Flags of a command that makes a graph: `engine`, `bundles`, and all options of a video."""
    return settings_flags("engine", "bundles")(option_flags(*VideoOptions.model_fields)(function))


def make_graph(
    video: Path, out: BinaryIO, *, engine: str | None, bundles: tuple[str, ...] | None, texts: dict[str, str | None]
) -> None:
    """Writes the scene graph of a video file as JSON, under a progress bar. Raises what the pipeline raises."""
    settings = read_settings({"bundles": bundles, "engine": engine})
    options = read_options(texts)
    folders = bundle_folders(settings)
    if options.model is None:
        del folders[1:]  # the first is the default; opening the others would only take time
    with closing(open_pipeline(settings, bundles=folders)) as pipeline, frames_bar() as show:
        pipeline.write(video, options, out, progress=show)


def read_graph(path: Path) -> SceneGraph:
    """A graph that was made before, of a file or of standard input. Raises InvalidOption for what is none."""
    is_file = path != STANDARD_INPUT
    content = path.read_bytes() if is_file else sys.stdin.buffer.read()
    try:
        return SceneGraph.model_validate_json(content)
    except ValidationError as error:
        name = path if is_file else "standard input"
        detail = f"{name} is not a scene graph as `vsg graph` writes it: {in_words(error)}"
        raise InvalidOption("graph", detail) from error


def progress_bar(*figures: ProgressColumn) -> ProgressBar:
    """A bar on standard error, gone when it is done; `figures` say how far it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), *figures, TimeRemainingColumn())
    return ProgressBar(*columns, console=Console(stderr=True), transient=True)


class OutputFile(click.Path):
    """The type of a flag that names a file to write: a command refuses one that cannot be written before it works."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        check_writable(path)
        return path


def check_writable(output: Path) -> None:
    """Raises ClickException, which names the reason, where a file cannot be written."""
    if _is_device(output):
        return
    part = _part_of(output)
    with _told_in_one_line(output):
        part.touch()
        part.unlink()


@contextmanager
def whole_file(output: Path) -> Iterator[Path]:
    """A path to write to; what is there becomes `output` when the context ends, and is gone after an exception.

    A pipe or a device, such as /dev/stdout, is written directly. Raises ClickException where the disk is full.
    """
    if _is_device(output):
        with _told_in_one_line(output, *_FULL):
            yield output
        return
    part = _part_of(output)
    try:
        with _told_in_one_line(output, *_FULL):
            yield part
            os.replace(part, os.path.realpath(output))
    finally:
        part.unlink(missing_ok=True)


def _is_device(output: Path) -> bool:
    return os.path.exists(output) and not os.path.isfile(output)  # unlike Path's, they never fail


def _part_of(output: Path) -> Path:
    """Where a file is written before it is whole: beside it, or beside what a link leads to."""
    return Path(os.path.realpath(output) + ".part")


@contextmanager
def _told_in_one_line(output: Path, *codes: int) -> Iterator[None]:
    """Turns an OSError, or one with these codes, into a ClickException."""
    try:
        yield
    except OSError as error:
        if codes and error.errno not in codes:
            raise
        reason = (error.strerror or str(error)).lower()
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            reason = f"there is no folder {output.parent}"
        raise click.ClickException(f"{output} cannot be written, {reason}: choose another file") from error


@contextmanager
def frames_bar() -> Iterator[Callable[[Progress | vsg.Progress], None]]:
    """A bar for the frames of a graph; the function that it gives takes the progress."""
    with progress_bar(MofNCompleteColumn()) as bar:
        task = bar.add_task("frames")
        yield lambda progress: bar.update(task, completed=progress.frames, total=progress.expected)


@contextmanager
def open_output(output: Path | None) -> Iterator[BinaryIO]:
    """A file to write into, which appears whole or not at all, or standard output."""
    if output is None:
        yield sys.stdout.buffer
        return
    with whole_file(output) as part, part.open("wb") as file:
        yield file

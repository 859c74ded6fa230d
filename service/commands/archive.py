"""`vsg archive`: what is done with an archive of graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
from PIL import Image

from models.graph.scene_graph import Options
from service.archive.annotation_tools import LOCAL_FILES, write_cvat, write_label_studio
from service.archive.compaction import compact as compact_archive
from service.archive.compaction import forget
from service.archive.errors import ArchiveError
from service.archive.exports import write_coco, write_graphml, write_neo4j
from service.archive.folder import ArchiveFolder
from service.archive.reading import finished
from service.archive.videos import ArchivedVideo, archived_videos
from service.batch.listing import fetched
from service.commands.common import read_settings, whole_file
from service.settings import Settings, decode_limits
from service.video import Sampling, VideoReader

_FORMATS: Final = ("graphml", "neo4j", "coco", "label-studio", "cvat")
_QUALITY = 92  # of a picture's JPEG


@click.group()
def archive() -> None:
    """Export, compact or delete from an archive that `vsg batch` or the service has written."""


@archive.command()
@click.argument("folder", metavar="ARCHIVE")
def compact(folder: str) -> None:
    """Make few files of many, and take the rows of deleted videos out."""
    done = compact_archive(_opened(folder))
    if done is None:
        raise ArchiveError(f"another process compacts {folder}: wait until it has ended")
    click.echo(f"{folder}: {done.before} files became {done.after}, {done.deleted} deleted videos are gone")


@archive.command()
@click.argument("folder", metavar="ARCHIVE")
@click.argument("videos", metavar="VIDEO…", nargs=-1, required=True)
def delete(folder: str, videos: tuple[str, ...]) -> None:
    """Delete videos for good.

    VIDEO is a key, as in the column `video` of all tables.
    """
    opened = _opened(folder)
    if unknown := set(videos) - finished(opened):
        raise ArchiveError(f"{folder} has no video {min(unknown)!r}: the column `video` of videos/ has the keys")
    forget(opened, videos)
    click.echo(f"{folder}: {len(set(videos))} videos are gone")


@archive.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(_FORMATS))
@click.argument("folder", metavar="ARCHIVE")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--video", "videos", multiple=True, help="Key of a video, instead of all; may be repeated.")
@click.option(
    "--pictures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write the frames to, as KEY/SECONDS.jpg, for coco, label-studio and cvat.",
)
@click.option(
    "--pictures-at",
    default=LOCAL_FILES,
    show_default=True,
    help="What the address of a picture begins with in Label Studio.",
)
def export(form: str, folder: str, out: Path, videos: tuple[str, ...], pictures: Path | None, pictures_at: str) -> None:
    """Write an archive in the format of another program.

    FORMAT is graphml, neo4j (OUT is a folder), coco, label-studio or cvat. The last three need an archive with frames.
    """
    opened = _opened(folder)
    chosen = archived_videos(opened, frozenset(videos) or None)
    if form == "neo4j":
        count = write_neo4j(chosen, out)
    else:
        with whole_file(out) as part:
            count = _write_file(form, chosen, part, out, pictures_at)
    click.echo(f"{out}: {count} videos")
    if pictures is not None:
        settings = read_settings({})
        for video in archived_videos(opened, frozenset(videos) or None):
            write_pictures(video, pictures, settings)


def _opened(folder: str) -> ArchiveFolder:
    """An archive that is there. Raises ArchiveError."""
    opened = ArchiveFolder(folder)
    opened.check()
    return opened


def _write_file(form: str, videos: Iterator[ArchivedVideo], part: Path, out: Path, pictures_at: str) -> int:
    if form == "graphml":
        return write_graphml(videos, part)
    if form == "coco":
        return write_coco(videos, part)
    if form == "cvat":
        return write_cvat(videos, part, labels=out.with_name(out.name + ".labels.json"))
    configuration = out.with_name(out.name + ".config.xml")
    return write_label_studio(videos, part, configuration=configuration, pictures=pictures_at)


def write_pictures(video: ArchivedVideo, folder: Path, settings: Settings) -> None:
    """Writes the sampled frames of a video as JPEG, at its own size. Raises ArchiveError where the video is gone."""
    path = video.row["path"]
    if path is None:
        raise ArchiveError(f"video {video.key} was posted, and its pictures are not kept: leave --pictures out")
    options = Options.model_validate_json(video.row["options"])
    asked = options.model_dump(include={"fps", "start", "end", "max_frames"})
    sampling = Sampling(**asked, height=video.row["height"], width=video.row["width"])
    names = iter([folder / video.picture_name(frame) for frame in video.frames])
    (folder / video.key).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="vsg-pictures-") as copies:
        try:
            file = Path(fetched(path, copies))
            with VideoReader(file, sampling, decode_limits(settings)) as reader:
                for chunk in reader:
                    for picture in chunk.frames:
                        Image.fromarray(picture).save(next(names), "JPEG", quality=_QUALITY)
        except FileNotFoundError as error:
            raise ArchiveError(f"{path} is gone: put it back, or leave --pictures out") from error

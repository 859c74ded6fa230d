"""The videos of a source: a folder, a glob, a list, one file, or any of these behind an fsspec URL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import fsspec

from service.batch.errors import SourceUnusable
from service.errors import ServiceError
from service.video import SNIFF_BYTES, sniff_container

VIDEO_ENDINGS: Final = (
    *("3g2", "3gp", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogg", "ogv"),
    *("qt", "ts", "vob", "webm"),
)
"""Endings of the files that a folder is searched for. Globs and lists name any file."""
_GLOB = re.compile(r"[*?\[]")
_URL = re.compile(r"[a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class ListedVideo:
    """A file of a source.

    path: absolute path or URL.
    etag: changes with the content: the store's own, or size and time of the last change.
    """

    path: str
    etag: str


@dataclass(frozen=True)
class Shard:
    """One of several parts of a source, which together have each video once, in whatever order they are listed.

    number: from 1 to `count`.
    """

    number: int
    count: int

    def has(self, video: ListedVideo) -> bool:
        """Whether a video belongs to this part."""
        return int.from_bytes(sha256(video.path.encode()).digest()[:8], "big") % self.count == self.number - 1


def list_videos(source: str) -> list[ListedVideo]:
    """The videos of a source, sorted by path, each once.

    source: a folder, which is searched with all that is in it for `VIDEO_ENDINGS`; a glob; a video; a text file with a
        path, a URL or a glob on each line, relative to its own folder. All but the lines may be URLs of fsspec, such as
        `s3://BUCKET/PREFIX`.

    Raises SourceUnusable where it is not there, cannot be read, or has no video.
    """
    try:
        videos = {video.path: video for video in _videos(source)}
    except ImportError as error:
        extra = "video-scene-graph[s3]" if source.startswith("s3") else "the library that fsspec names for it"
        raise SourceUnusable(f"{source} needs a library: install it with: pip install {extra!r}") from error
    except ServiceError:
        raise
    except Exception as error:  # each store raises errors of its own library
        raise SourceUnusable(
            f"{source} cannot be listed ({_in_one_line(error)}): correct the name or its rights"
        ) from error
    if not videos:
        raise SourceUnusable(f"{source} has no video: give a folder, a glob, a list of paths, or a video")
    return [videos[path] for path in sorted(videos)]


def fetched(path: str, folder: str) -> str:
    """A video as a file of this machine: itself, or a copy in `folder`. Raises what the store raises."""
    store, inner = fsspec.core.url_to_fs(path)
    if _is_local(store):
        return str(inner)
    copy = os.path.join(folder, "video")
    store.get_file(inner, copy)
    return copy


def _videos(source: str) -> Iterator[ListedVideo]:
    if _GLOB.search(source):
        yield from _globbed(source)
        return
    store, path = fsspec.core.url_to_fs(source, use_listings_cache=False)
    if store.isfile(path):
        if _is_video(store, path):
            yield _listed(store, store.info(path))
        else:
            yield from _of_list(store, path)
        return
    for name, described in store.find(path, detail=True).items():
        if name.rpartition(".")[2].lower() in VIDEO_ENDINGS:
            yield _listed(store, described)


def _globbed(pattern: str) -> Iterator[ListedVideo]:
    store, path = fsspec.core.url_to_fs(pattern, use_listings_cache=False)
    for described in store.glob(path, detail=True).values():
        if described["type"] == "file":
            yield _listed(store, described)


def _of_list(store: Any, path: str) -> Iterator[ListedVideo]:
    try:
        lines = store.cat_file(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise SourceUnusable(f"{path} is neither a video nor a text: give a list with a path on each line") from error
    for line in _entries(lines):
        entry = (
            line if _URL.match(line) or os.path.isabs(line) else f"{store.unstrip_protocol(store._parent(path))}/{line}"
        )
        if _GLOB.search(entry):
            yield from _globbed(entry)
            continue
        place, inner = fsspec.core.url_to_fs(entry, use_listings_cache=False)
        try:
            yield _listed(place, place.info(inner))
        except FileNotFoundError:
            # One wrong line does not stop the others: the video becomes a row with its problem.
            yield ListedVideo(_address(place, inner), "")


def _entries(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield entry


def _is_video(store: Any, path: str) -> bool:
    try:
        sniff_container(store.read_block(path, 0, SNIFF_BYTES))
    except ServiceError:
        return path.rpartition(".")[2].lower() in VIDEO_ENDINGS  # its problem becomes its row
    return True


def _listed(store: Any, described: dict[str, Any]) -> ListedVideo:
    etag = described.get("ETag") or described.get("etag")
    if not etag:
        changed = next((described[key] for key in ("mtime", "LastModified", "updated") if described.get(key)), "")
        seconds = changed.timestamp() if isinstance(changed, datetime) else changed
        etag = f"{described['size']}-{seconds}"
    return ListedVideo(_address(store, described["name"]), str(etag).strip('"'))


def _address(store: Any, path: str) -> str:
    return path if _is_local(store) else str(store.unstrip_protocol(path))


def _is_local(store: Any) -> bool:
    return "file" in ({store.protocol} if isinstance(store.protocol, str) else store.protocol)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

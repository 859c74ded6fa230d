"""Where uploads and results lie: a folder or any fsspec URL, so that the API and its workers need not share a disk."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import fsspec

Area = Literal["uploads", "results"]
_BLOCK = 1 << 18  # bytes read at once


class Storage:
    """Uploads and results, by the id of their video. All methods block; call them from a thread."""

    def __init__(self, url: str) -> None:
        """`url` is a folder or an fsspec URL such as `s3://bucket/prefix`; it is made where missing."""
        # Listings must not be cached: other processes write here, too.
        self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._is_local = "file" in self._files.protocol
        for area in ("uploads", "results"):
            self._files.makedirs(f"{self._root}/{area}", exist_ok=True)

    def open_upload(self, video_id: str) -> UploadWriter:
        """A new, empty upload."""
        return UploadWriter(self._files.open(self._path("uploads", video_id), "wb"))

    @contextmanager
    def local_upload(self, video_id: str) -> Iterator[Path]:
        """The upload as a file of this machine, for as long as the context lasts."""
        path = self._path("uploads", video_id)
        if self._is_local:
            yield Path(path)
            return
        with tempfile.TemporaryDirectory(prefix="vsg-upload-") as folder:
            local = Path(folder) / video_id
            self._files.get_file(path, str(local))
            yield local

    def delete_upload(self, video_id: str) -> None:
        """Deletes an upload, if it is there."""
        self._delete(self._path("uploads", video_id))

    def write_result(self, video_id: str, content: bytes, *, failed: bool = False) -> None:
        """Stores a graph, or the problem document of a failed job; appears whole or not at all."""
        with self.open_result(video_id, failed=failed) as out:
            out.write(content)

    @contextmanager
    def open_result(self, video_id: str, *, failed: bool = False) -> Iterator[BinaryIO]:
        """A file to write a result into. It appears, whole, when the context ends; after an exception it never does."""
        path = self._result(video_id, failed=failed)
        # A name of its own, because a job that was given to a second worker may still run on the first.
        part = f"{path}.{secrets.token_hex(4)}.part"
        try:
            with self._files.open(part, "wb") as out:
                yield out
        except BaseException:
            self._delete(part)
            raise
        self._files.mv(part, path)

    def result(self, video_id: str) -> StoredResult | None:
        """The stored graph or problem document; None when there is none."""
        for failed in (False, True):
            path = self._result(video_id, failed=failed)
            try:
                size: int = self._files.size(path)
            except FileNotFoundError:
                continue
            return StoredResult(self._files, path, size, failed)
        return None

    def delete_result(self, video_id: str) -> bool:
        """Deletes a result; says whether there was one."""
        was_graph = self._delete(self._result(video_id, failed=False))
        return self._delete(self._result(video_id, failed=True)) or was_graph

    def delete_older_than(self, seconds: float) -> None:
        """Deletes what a process that died has left behind."""
        limit = time.time() - seconds
        for area in ("uploads", "results"):
            for path in self._files.ls(f"{self._root}/{area}", detail=False):
                if self._files.modified(path).timestamp() < limit:
                    self._delete(path)

    def _result(self, video_id: str, *, failed: bool) -> str:
        return self._path("results", f"{video_id}.problem.json" if failed else f"{video_id}.json")

    def _path(self, area: Area, name: str) -> str:
        return f"{self._root}/{area}/{name}"

    def _delete(self, path: str) -> bool:
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return False
        return True


@dataclass(frozen=True)
class StoredResult:
    """A result as it lies in storage: a graph, or the problem document of a failed job; `size` is in bytes."""

    _files: Any
    _path: str
    size: int
    failed: bool

    def blocks(self) -> Iterator[bytes]:
        """The content in blocks; opened with the first, so that a result deleted after it can still be read.

        The first raises FileNotFoundError when the result was deleted before. Blocks; call it from a thread.
        """
        with self._files.open(self._path, "rb") as file:
            while block := file.read(_BLOCK):
                yield block

    def read(self) -> bytes:
        """The whole content; for what is known to be small. Raises FileNotFoundError, as `blocks` does."""
        return b"".join(self.blocks())


class UploadWriter:
    """Takes an upload as it arrives, counting and hashing it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Appends; blocks."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> None:
        """Makes the upload complete."""
        self._file.close()

    @property
    def sha256(self) -> str:
        """Hex digest of what was written so far."""
        return self._hash.hexdigest()

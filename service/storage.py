"""Storage of uploads and results: a folder or any fsspec URL, so that API and workers need not share a disk."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import fsspec

from service.tracing import span

Area = Literal["uploads", "results"]
_BLOCK = 1 << 18  # bytes read at once


class Storage:
    """Uploads by the id of their video, and results by owner and id. All methods block; call them from a thread.

    Owners and ids become names of files, so both must be plain words.
    """

    def __init__(self, url: str) -> None:
        """Opens a folder or an fsspec URL such as `s3://bucket/prefix`, and makes it if it is missing."""
        # Listings must not be cached, because other processes write here too.
        self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._is_local = "file" in self._files.protocol
        for area in ("uploads", "results"):
            self._files.makedirs(f"{self._root}/{area}", exist_ok=True)

    def open_upload(self, video_id: str) -> UploadWriter:
        """Begins a new upload."""
        return UploadWriter(self._files.open(self._path("uploads", video_id), "wb"))

    @contextmanager
    def local_upload(self, video_id: str) -> Iterator[Path]:
        """Yields the upload as a file of this machine, which lasts as long as the context."""
        path = self._path("uploads", video_id)
        if self._is_local:
            yield Path(path)
            return
        with tempfile.TemporaryDirectory(prefix="vsg-upload-") as folder:
            local = Path(folder) / video_id
            self._files.get_file(path, str(local))
            yield local

    def delete_upload(self, video_id: str) -> None:
        """Deletes an upload, if there is one."""
        self._delete(self._path("uploads", video_id))

    def write_result(self, video_id: str, owner: str, content: bytes, *, failed: bool = False) -> None:
        """Stores a graph, or the problem document of a failed job. It appears whole or not at all."""
        with self.open_result(video_id, owner, failed=failed) as out:
            out.write(content)

    @contextmanager
    def open_result(self, video_id: str, owner: str, *, failed: bool = False) -> Iterator[BinaryIO]:
        """Yields a file to write a result into. It appears, whole, when the context ends without an exception."""
        path = self._result(video_id, owner, failed=failed)
        # Each writer has its own file, because a job that was given to a second worker may still run on the first.
        part = f"{path}.{secrets.token_hex(4)}.part"
        self._files.makedirs(self._path("results", owner), exist_ok=True)
        try:
            with self._files.open(part, "wb") as out:
                yield out
        except BaseException:
            self._delete(part)
            raise
        with span("store result"):
            self._files.mv(part, path)

    def result(self, video_id: str, owner: str) -> StoredResult | None:
        """Finds the graph or problem document of a video; None if this owner has none."""
        for failed in (False, True):
            path = self._result(video_id, owner, failed=failed)
            try:
                size: int = self._files.size(path)
                return StoredResult(self._files, path, size, self._age(path), failed)
            except FileNotFoundError:
                continue
        return None

    def delete_result(self, video_id: str, owner: str) -> bool:
        """Deletes a result. Returns whether there was one."""
        was_graph = self._delete(self._result(video_id, owner, failed=False))
        return self._delete(self._result(video_id, owner, failed=True)) or was_graph

    def copy_result(self, video_id: str, copy_id: str, owner: str) -> bool:
        """Copies a graph to another id, which it then carries. Returns whether there is a graph."""
        result = self.result(video_id, owner)
        if result is None or result.failed:
            return False
        try:
            with self.open_result(copy_id, owner) as out:
                # All ids have the same length, and a graph begins with its own.
                old, new = (f'"id":"{name}"'.encode() for name in (video_id, copy_id))
                for block in result.blocks():
                    out.write(block.replace(old, new, 1))
                    old = new
        except FileNotFoundError:  # it was deleted just now
            return False
        return True

    def files(self, area: Area) -> list[StoredFile]:
        """All files of an area."""
        found = []
        for path in self._files.find(f"{self._root}/{area}"):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                found.append(StoredFile(path, self._age(path)))
        return found

    def delete(self, file: StoredFile) -> None:
        """Deletes one of `files`, if it still exists."""
        self._delete(file.path)

    def _result(self, video_id: str, owner: str, *, failed: bool) -> str:
        return self._path("results", f"{owner}/{video_id}.problem.json" if failed else f"{owner}/{video_id}.json")

    def _age(self, path: str) -> float:
        written: datetime = self._files.modified(path)
        return time.time() - written.timestamp()

    def _path(self, area: Area, name: str) -> str:
        return f"{self._root}/{area}/{name}"

    def _delete(self, path: str) -> bool:
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return False
        return True


@dataclass(frozen=True)
class StoredFile:
    """A file in storage. `age` is the seconds since it was last written."""

    path: str
    age: float

    @property
    def video_id(self) -> str:
        """The id of its video."""
        return self.path.rpartition("/")[2].partition(".")[0]

    @property
    def is_unfinished(self) -> bool:
        """Whether it is a result that is still being written, or whose writer was killed."""
        return self.path.endswith(".part")


@dataclass(frozen=True)
class StoredResult:
    """A result in storage: a graph, or the problem document of a failed job.

    size: in bytes.
    age: seconds since it was written.
    failed: whether it is a problem document.
    """

    _files: Any
    _path: str
    size: int
    age: float
    failed: bool

    def blocks(self) -> Iterator[bytes]:
        """Yields the content in blocks; call it from a thread. After the first block, deleting does no harm.

        Raises FileNotFoundError, before the first block, when the result has been deleted.
        """
        with self._files.open(self._path, "rb") as file:
            while block := file.read(_BLOCK):
                yield block

    def read(self) -> bytes:
        """Returns the whole content, which should be small. Raises FileNotFoundError when it has been deleted."""
        return b"".join(self.blocks())


class UploadWriter:
    """Writes an upload as it arrives, and counts and hashes it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Appends data. Blocks."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> None:
        """Completes the upload."""
        self._file.close()

    @property
    def sha256(self) -> str:
        """Hex digest of the data so far."""
        return self._hash.hexdigest()

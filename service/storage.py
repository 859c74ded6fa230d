"""Where uploads and results lie: a folder or any fsspec URL, so that the API and its workers need not share a disk."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import fsspec

Area = Literal["uploads", "results"]


class Storage:
    """Uploads and results, by the id of their video. All methods block; call them from a thread."""

    def __init__(self, url: str) -> None:
        """`url` is a folder or an fsspec URL such as `s3://bucket/prefix`; it is made where missing."""
        self._files, self._root = fsspec.core.url_to_fs(url)
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
        """Stores the graph, or the problem document of a failed job; appears whole or not at all."""
        path = self._result(video_id, failed=failed)
        self._files.pipe_file(path + ".part", content)
        self._files.mv(path + ".part", path)

    def read_result(self, video_id: str) -> tuple[bytes, bool] | None:
        """The content of a result and whether it is that of a failed job; None when there is no result."""
        for failed in (False, True):
            try:
                content: bytes = self._files.cat_file(self._result(video_id, failed=failed))
            except FileNotFoundError:
                continue
            return content, failed
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

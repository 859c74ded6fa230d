"""Files in storage: results and uploads that are listed, read or written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from service.storage_errors import answering

if TYPE_CHECKING:
    from service.storage import Storage

_BLOCK = 1 << 18  # bytes read at once


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
        """Whether it is still being written, or its writer was killed."""
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

        Raises FileNotFoundError, before the first block, when the result has been deleted; StorageUnavailable when the
        storage does not answer.
        """
        with answering():
            file: BinaryIO = self._files.open(self._path, "rb")
        with file:
            while True:
                with answering():
                    block = file.read(_BLOCK)
                if not block:
                    return
                yield block

    def read(self) -> bytes:
        """Returns the whole content, which should be small. Raises what `blocks` does."""
        return b"".join(self.blocks())


class ResultFile:
    """A result that is being written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes, /) -> int:
        """Appends data. Raises StorageUnavailable or StorageFull."""
        with answering():
            self._file.write(data)
        return len(data)


class UploadWriter:
    """Writes an upload as it arrives, and counts and hashes it."""

    def __init__(self, storage: Storage, file: Any, part: str, path: str) -> None:
        """
        part: where the bytes go until the upload is whole.
        path: its place then.
        """
        self._storage = storage
        self._file = file
        self._part = part
        self._path = path
        self._hash = hashlib.sha256()
        self._has_ended = False
        self.size = 0

    def write(self, data: bytes) -> None:
        """Appends data. Blocks. Raises StorageUnavailable or StorageFull."""
        with answering():
            self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def touch(self) -> None:
        """Shows that the upload still arrives although nothing is written. Blocks."""
        if self._part != self._path:
            with answering():
                os.utime(self._file.fileno())

    def close(self) -> None:
        """Completes the upload: from now on it outlives a loss of power. Raises StorageUnavailable or StorageFull."""
        self._storage._finish_upload(self._file, self._part, self._path)
        self._end()

    def abandon(self) -> None:
        """Closes an upload that is not complete. Its owner deletes it."""
        self._storage._discard(self._file)
        self._end()

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._storage._end_upload()

    @property
    def sha256(self) -> str:
        """Hex digest of the data so far."""
        return self._hash.hexdigest()

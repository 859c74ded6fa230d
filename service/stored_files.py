"""Files in storage: results and uploads that are listed, read or written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from service.storage_errors import answering

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

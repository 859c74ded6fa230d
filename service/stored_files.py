"""Files of a storage as others see them, and the errors of all stores as two of ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import structlog

from service.errors import ServiceError, StorageElsewhere, StorageFull, StorageUnavailable

_BLOCK = 1 << 18  # bytes read at once
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

log = structlog.get_logger(__name__)


@contextmanager
def answering() -> Iterator[None]:
    """Turns whatever a store raises into StorageUnavailable or StorageFull; a missing file stays FileNotFoundError."""
    try:
        yield
    except (FileNotFoundError, ServiceError):
        raise
    except Exception as error:  # stores raise errors of their own libraries
        raise unavailable(error) from error


def unavailable(error: Exception) -> StorageUnavailable:
    """Returns the error that says to others what a store raised."""
    log.warning("the storage does not answer", error=repr(error))
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return StorageFull("the storage of videos and graphs is full: try again later")
    return StorageUnavailable("the storage of videos and graphs does not answer: try again in a moment")


def remedy_of(error: StorageUnavailable) -> str:
    """A sentence for the operator: why a storage cannot be used at the start, and what to do."""
    cause = error.__cause__
    if isinstance(cause, PermissionError | NotADirectoryError | FileExistsError) and cause.filename:
        return f"user {os.geteuid()} cannot write there ({cause.strerror}): give a folder that this user may write to"
    if cause is None or isinstance(error, StorageElsewhere):
        return error.detail
    reason = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, FileNotFoundError):
        return f"it is not there ({reason:.200}): correct the name, or make the bucket or the disk first"
    if isinstance(cause, PermissionError) or "credential" in reason.lower():
        return f"access is denied ({reason:.200}): give credentials with the rights that docs/operations.md lists"
    return f"it does not answer ({reason:.200}): correct the URL or its endpoint, or start the storage first"


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

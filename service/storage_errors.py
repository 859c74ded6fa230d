"""Errors of storage: one kind for whatever a store raises, and words for the operator."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from service.errors import ServiceError, StorageElsewhere, StorageFull, StorageUnavailable

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

"""Files in storage: results, kept frames and uploads that are listed, read or written."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, TypeVar

from service.prompt import KeyFrame
from service.storage_errors import answering
from service.stored_places import FRAMES, LEFT, SHARE

MOST_KEPT_BYTES = 8 << 20  # of the frames that are kept beside one graph
_BLOCK = 1 << 18  # bytes read at once
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of entries of an archive: two workers write the same bytes


T = TypeVar("T")


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
    def owner(self) -> str:
        """The owner of a result."""
        return self.path.split("/")[-2]

    @property
    def graph_id(self) -> str:
        """The id of the video whose graph this is, or which a share names."""
        return self.path.rpartition("/")[2].split(".")[1] if self.is_share else self.video_id

    @property
    def is_share(self) -> bool:
        """Whether it says which graph answers for a video."""
        return self.path.endswith(SHARE)

    @property
    def is_left(self) -> bool:
        """Whether it is a graph whose own video was deleted."""
        return self.path.endswith(LEFT)

    @property
    def is_graph(self) -> bool:
        """Whether it is a graph, which may answer for several videos."""
        return self.is_left or self.path.endswith(f"/{self.video_id}.json")

    @property
    def is_frames(self) -> bool:
        """Whether it holds the frames that are kept beside a graph."""
        return self.path.endswith(FRAMES)

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
    id: of the video that it answers for, which it then carries.
    own_id: of the video that it was made for, where that is another.
    left_path: to which it is moved when that other video is deleted.
    """

    _files: Any
    _path: str
    size: int
    age: float
    failed: bool
    id: str
    own_id: str = ""
    left_path: str = ""

    @property
    def graph_id(self) -> str:
        """The id of the video that it was made for."""
        return self.own_id or self.id

    def blocks(self) -> Iterator[bytes]:
        """Yields the content in blocks; call it from a thread. After the first block, deleting does no harm.

        Raises FileNotFoundError, before the first block, when the result has been deleted; StorageUnavailable when the
        storage does not answer.
        """
        with answering():
            file = self._open()
        # All ids have the same length, and a graph begins with its own.
        old, new = (f'"id":"{name}"'.encode() for name in (self.graph_id, self.id))
        with file:
            while True:
                with answering():
                    block = file.read(_BLOCK)
                if not block:
                    return
                yield block.replace(old, new, 1)
                old = new

    def read(self) -> bytes:
        """Returns the whole content, which should be small. Raises what `blocks` does."""
        return b"".join(self.blocks())

    def _open(self) -> BinaryIO:
        """Opens the file, wherever it is now. Raises FileNotFoundError."""
        try:
            file: BinaryIO = self._files.open(self._path, "rb")
        except FileNotFoundError:
            if not self.left_path:
                raise
            file = self._files.open(self.left_path, "rb")
        return file


class ResultFile:
    """A result that is being written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes, /) -> int:
        """Appends data. Raises StorageUnavailable or StorageFull."""
        with answering():
            self._file.write(data)
        return len(data)


class KeptFrames:
    """The frames that are kept beside a graph, in one archive of JPEGs, so that they come and go as one.

    Reading raises StorageUnavailable.
    """

    def __init__(self, files: Any, path: str) -> None:
        self._files = files
        self._path = path

    def frame(self, index: int) -> KeyFrame | None:
        """One frame; None where it is not kept."""
        return self.read([index]).get(index)

    def moments(self) -> dict[int, float]:
        """The times of all frames in seconds, by index."""
        return self._read(lambda archive, entry: float(entry.comment))

    def read(self, indices: Container[int] | None = None) -> dict[int, KeyFrame]:
        """These frames, or all, by index, without those that are not kept."""
        return self._read(lambda archive, entry: KeyFrame(float(entry.comment), archive.read(entry)), indices)

    def _read(
        self, read: Callable[[zipfile.ZipFile, zipfile.ZipInfo], T], indices: Container[int] | None = None
    ) -> dict[int, T]:
        found = {}
        try:
            with answering():
                opened: BinaryIO = self._files.open(self._path, "rb")
                with opened, zipfile.ZipFile(opened) as archive:
                    for entry in archive.infolist():
                        index = int(entry.filename.removesuffix(".jpg"))
                        if indices is None or index in indices:
                            found[index] = read(archive, entry)
        except FileNotFoundError:
            return {}
        return found


def pack_frames(frames: Mapping[int, KeyFrame]) -> tuple[bytes, list[int]]:
    """Returns an archive of frames by index, the first ones up to `MOST_KEPT_BYTES`, and the indices of these."""
    packed = BytesIO()
    kept: list[int] = []
    left = MOST_KEPT_BYTES
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for index, frame in frames.items():
            left -= len(frame.jpeg)
            if left < 0:
                break
            entry = zipfile.ZipInfo(f"{index}.jpg", _EPOCH)
            entry.comment = repr(frame.timestamp).encode()
            archive.writestr(entry, frame.jpeg)
            kept.append(index)
    return packed.getvalue(), sorted(kept)


class UploadWriter:
    """Writes an upload as it arrives, and counts and hashes it."""

    def __init__(
        self,
        file: Any,
        *,
        touches: bool,
        finish: Callable[[], None],
        discard: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        """
        touches: whether others see the time at which it was written last.
        finish: completes the file.
        discard: closes the file when it is not complete.
        end: is called once, after either.
        """
        self._file = file
        self._touches = touches
        self._finish = finish
        self._discard = discard
        self._end = end
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
        if self._touches:
            with answering():
                os.utime(self._file.fileno())

    def close(self) -> None:
        """Completes the upload: from now on it outlives a loss of power. Raises StorageUnavailable or StorageFull."""
        self._finish()
        self._end_once()

    def abandon(self) -> None:
        """Closes an upload that is not complete. Its owner deletes it."""
        self._discard()
        self._end_once()

    def _end_once(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._end()

    @property
    def sha256(self) -> str:
        """Hex digest of the data so far."""
        return self._hash.hexdigest()

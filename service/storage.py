"""Storage of uploads and results: a folder or any fsspec URL, so that API and workers need not share a disk."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import structlog

from service.errors import SettingsError, StorageUnavailable, Unavailable
from service.prompt import KeyFrame
from service.storage_errors import answering, unavailable
from service.stored_files import KeptFrames, ResultFile, StoredFile, StoredResult, UploadWriter, pack_frames
from service.stored_places import AREAS, SHARE, Area, Places
from service.tracing import span

_PROBE_BYTES = 1 << 16
# Of a file in S3 that is held in memory, while it is written or read. s3fs would hold 50 MiB, and copies of them.
_FAR_BLOCK = 5 << 20
_MOST_FAR_UPLOADS = 32  # at once; each holds a block
_MARKER = "STORAGE"
# Stores of buckets have no folders. To make one there would make the bucket, and so hide a typo in its name.
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "oss", "oci"})

log = structlog.get_logger(__name__)


class Storage:
    """Uploads by the id of their video, and results by owner and id. All methods block; call them from a thread.

    A graph may answer for further videos, which are equal to its own: each has an empty file, a share, whose name has
    both ids. The graph lasts as long as any of them.

    Owners and ids become names of files, so both must be plain words.

    A marker, a file that is written once, tells a file that is gone from a storage that is away, such as a disk that
    is not mounted. All methods raise StorageUnavailable, or StorageFull, when the storage does not answer.
    """

    def __init__(self, url: str) -> None:
        """Opens a folder or an fsspec URL such as `s3://bucket/prefix`. Use `make` where it may be missing.

        Raises SettingsError where there is no such kind of storage, or its library is not installed.
        """
        self.url = url
        try:
            # Listings must not be cached, because other processes write here too.
            options = {"default_block_size": _FAR_BLOCK} if url.startswith(("s3:", "s3a:")) else {}
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
        except ImportError as error:
            extra = "video-scene-graph[s3]" if url.startswith("s3") else "the library that fsspec names for it"
            raise SettingsError(f"VSG_DATA is {url!r}, which needs a library: pip install {extra!r}") from error
        except Exception as error:  # each kind of storage checks its URL in its own way
            raise SettingsError(
                f"VSG_DATA is {url!r}: give a folder such as /data, or a URL such as s3://BUCKET/PREFIX"
            ) from error
        self._places = Places(self._root)
        kinds = {self._files.protocol} if isinstance(self._files.protocol, str) else set(self._files.protocol)
        self._is_local = "file" in kinds
        self._has_folders = not kinds & _BUCKETS
        self._clock_ahead = 0.0
        self._slots = threading.BoundedSemaphore(_MOST_FAR_UPLOADS)

    def make(self, mark: str) -> None:
        """Makes the storage, and writes the marker with this text."""
        with self._reaching():
            self._make_folder(self._root)
            for area in AREAS:
                self._make_folder(f"{self._root}/{area}")
            self._files.pipe_file(self._marker, mark.encode())

    def mark(self) -> str | None:
        """The text of the marker; None where there is none: the storage is new, or it is away."""
        try:
            with answering():
                text: bytes = self._files.cat_file(self._marker)
        except FileNotFoundError:
            return None
        return text.decode(errors="replace")

    def check(self) -> None:
        """Writes and deletes a small file, and learns the storage's clock from it.

        Raises StorageUnavailable where the storage does not answer, StorageFull where it has no room.
        """
        probe = f"{self._root}/probe.{secrets.token_hex(8)}"
        self._confirm()
        with self._reaching():
            try:
                with self._files.open(probe, "wb") as file:
                    file.write(bytes(_PROBE_BYTES))
                    self._sync(file)
                self._clock_ahead = self._files.modified(probe).timestamp() - time.time()
            finally:
                with contextlib.suppress(Exception):  # what made the probe fail is raised, not this
                    self._files.rm_file(probe)

    def open_upload(self, video_id: str) -> UploadWriter:
        """Begins a new upload. Raises Unavailable where too many arrive at once for the memory of this process."""
        if not self._is_local and not self._slots.acquire(blocking=False):
            raise Unavailable(f"{_MOST_FAR_UPLOADS} uploads arrive here already: try again in a moment")
        try:
            return self._open_upload(video_id)
        except BaseException:
            self._end_upload()
            raise

    def _open_upload(self, video_id: str) -> UploadWriter:
        path = self._places.path("uploads", video_id)
        # A local file is there before it is whole; other stores show a file when it is.
        part = f"{path}.part" if self._is_local else path
        with self._reaching():
            file = self._files.open(part, "wb")
        return UploadWriter(
            file,
            touches=self._is_local,
            finish=lambda: self._finish_upload(file, part, path),
            discard=lambda: self._discard(file),
            end=self._end_upload,
        )

    @contextmanager
    def local_upload(self, video_id: str) -> Iterator[Path]:
        """Yields the upload as a file of this machine, which lasts as long as the context.

        Raises FileNotFoundError where it is gone.
        """
        path = self._places.path("uploads", video_id)
        if self._is_local:
            with self._finding():
                os.stat(path)
            yield Path(path)
            return
        with tempfile.TemporaryDirectory(prefix="vsg-upload-") as folder:
            local = Path(folder) / video_id
            with self._finding():
                self._files.get_file(path, str(local))
            yield local

    def delete_upload(self, video_id: str) -> None:
        """Deletes an upload, if there is one, whole or not."""
        path = self._places.path("uploads", video_id)
        self._delete(path)
        if self._is_local:
            self._delete(f"{path}.part")

    def write_result(self, video_id: str, owner: str, content: bytes, *, failed: bool = False) -> None:
        """Stores a graph, or the problem document of a failed job. It appears whole or not at all."""
        with self.open_result(video_id, owner, failed=failed) as out:
            out.write(content)

    @contextmanager
    def open_result(self, video_id: str, owner: str, *, failed: bool = False) -> Iterator[BinaryIO]:
        """Yields a file to write a result into. It appears, whole, when the context ends without an exception."""
        with self._open_whole(self._places.result(video_id, owner, failed=failed), owner) as out:
            yield out

    @contextmanager
    def _open_whole(self, path: str, owner: str) -> Iterator[BinaryIO]:
        """Yields a file of an owner's results, which appears, whole, when the context ends without an exception."""
        # Each writer has its own file, because a job that was given to a second worker may still run on the first.
        part = f"{path}.{secrets.token_hex(4)}.part"
        self._confirm()  # or the folders would be made where a disk is to be mounted
        with self._reaching():
            self._make_folder(self._places.path("results", owner))
            file = self._files.open(part, "wb")
        out = ResultFile(file)
        try:
            yield cast(BinaryIO, out)  # only written to
            with span("store result"), self._reaching():
                self._sync(file)
                file.close()
                self._files.mv(part, path)
                self._sync_folder(path)
        except BaseException:
            self._discard(file)
            with contextlib.suppress(StorageUnavailable):
                self._delete(part)
            raise

    def result(self, video_id: str, owner: str, graph_id: str | None = None) -> StoredResult | None:
        """Finds the graph or problem document of a video; None if this owner has none.

        graph_id: of the video whose graph answers for this one, where that is known.
        """
        if graph_id is None or graph_id == video_id:
            for failed in (False, True):
                path = self._places.result(video_id, owner, failed=failed)
                if (described := self._described(path)) is not None:
                    return StoredResult(self._files, path, described["size"], self._age(described), failed, video_id)
        if graph_id is None:
            for share in self._shares(owner, of=video_id):
                described = self._described(share.path)
                found = self._shared(share.graph_id, owner, video_id)
                if described is not None and found is not None:
                    return replace(found, age=self._age(described))
        elif graph_id != video_id and (found := self._shared(graph_id, owner, video_id)) is not None:
            return found
        self._confirm()
        return None

    def keep_frames(self, graph_id: str, owner: str, frames: Mapping[int, KeyFrame]) -> list[int]:
        """Keeps frames as pictures beside a graph, the first ones up to `MOST_KEPT_BYTES`. Returns their indices."""
        content, indices = pack_frames(frames)
        with self._open_whole(self._places.frames(graph_id, owner), owner) as out:
            out.write(content)
        return indices

    def kept_frames(self, graph_id: str, owner: str) -> KeptFrames:
        """The frames that are kept beside a graph; reading them tells whether there are any."""
        return KeptFrames(self._files, self._places.frames(graph_id, owner))

    def delete_result(self, video_id: str, owner: str) -> bool:
        """Deletes a result, with the frames kept beside it. Returns whether there was one."""
        self._delete(self._places.frames(video_id, owner))
        found = [self._delete(self._places.result(video_id, owner, failed=failed)) for failed in (False, True)]
        return self._delete(self._places.left(video_id, owner)) or any(found)

    def share(self, graph_id: str, video_id: str, owner: str) -> bool:
        """Has the graph of a video answer for another one too. Returns whether there is such a graph."""
        if self._shared(graph_id, owner, video_id) is None:
            return False
        share = self._places.share(graph_id, video_id, owner)
        with self._reaching():
            self._files.pipe_file(share, b"")
            self._sync_folder(share)
        return True

    def delete_share(self, video_id: str, owner: str, graph_id: str) -> None:
        """Has the graph of a video answer for this one no longer, if it did."""
        self._delete(self._places.share(graph_id, video_id, owner))

    def is_shared(self, graph_id: str, owner: str, *, besides: str) -> bool:
        """Whether the graph of a video answers for any other than `besides`. It lists all results of the owner."""
        if graph_id != besides and self._described(self._places.result(graph_id, owner, failed=False)) is not None:
            return True
        return any(share.graph_id == graph_id and share.video_id != besides for share in self._shares(owner))

    def leave_to_others(self, graph_id: str, owner: str) -> None:
        """Takes the graph of a video away from it, but not from the others that it answers for, nor its frames."""
        with contextlib.suppress(FileNotFoundError), answering():
            self._files.mv(self._places.result(graph_id, owner, failed=False), self._places.left(graph_id, owner))

    def files(self, area: Area) -> list[StoredFile]:
        """All files of an area."""
        self._confirm()  # a folder that is away lists no files
        found = []
        with answering():
            # The listing tells the times too: to ask for each would take minutes where files are far away.
            for path, described in self._files.find(f"{self._root}/{area}", detail=True).items():
                found.append(StoredFile(path, self._age(described)))
        return found

    def delete(self, file: StoredFile) -> None:
        """Deletes one of `files`, if it still exists."""
        self._delete(file.path)

    def end_unfinished(self, seconds: float) -> None:
        """Deletes the parts of files that were begun this long ago and are not whole, which S3 keeps and lists apart.

        Where the rights for it are missing, a rule of the bucket has to delete them.
        """
        if not hasattr(self._files, "list_multipart_uploads"):
            return
        bucket, _, folder = self._root.partition("/")
        try:
            for begun in self._files.list_multipart_uploads(bucket):
                is_ours = any(begun["Key"].startswith(f"{folder}/{area}/".lstrip("/")) for area in AREAS)
                if is_ours and self._now() - begun["Initiated"].timestamp() > seconds:
                    self._files.abort_mpu(bucket, begun["Key"], begun["UploadId"])
        except Exception as error:
            log.warning("unfinished uploads are left to the rules of the bucket", error=repr(error))

    def _end_upload(self) -> None:
        if not self._is_local:
            self._slots.release()

    def _discard(self, file: Any) -> None:
        """Closes a file that is not whole. In S3 it must not be completed, as closing would."""
        with contextlib.suppress(Exception):
            if self._has_folders:
                file.close()
            else:
                file.discard()
                file.closed = True

    @property
    def _marker(self) -> str:
        return f"{self._root}/{_MARKER}"

    def _confirm(self) -> None:
        """Raises StorageUnavailable where the marker is not there."""
        with self._reaching():
            self._files.info(self._marker)

    @contextmanager
    def _finding(self) -> Iterator[None]:
        """For reading: a file that is not found is gone only if the storage is there."""
        try:
            with answering():
                yield
        except FileNotFoundError:
            self._confirm()
            raise

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """For writing: a path that is not found is a storage that is away."""
        try:
            with answering():
                yield
        except FileNotFoundError as error:
            raise unavailable(error) from error

    def _sync(self, file: Any) -> None:
        """Puts what was written to the disk, so that it outlives a loss of power."""
        file.flush()
        if self._is_local:
            os.fsync(file.fileno())

    def _sync_folder(self, path: str) -> None:
        """Puts the name of a file to the disk."""
        if self._is_local:
            folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _finish_upload(self, file: Any, part: str, path: str) -> None:
        with self._reaching():
            self._sync(file)
            file.close()
            if part != path:
                self._files.mv(part, path)
            self._sync_folder(path)

    def _make_folder(self, path: str) -> None:
        """Makes a folder, on a disk one that nobody else on the machine may look into."""
        if self._is_local:
            os.makedirs(path, mode=0o700, exist_ok=True)
        elif self._has_folders:
            self._files.makedirs(path, exist_ok=True)

    def _age(self, described: Mapping[str, Any]) -> float:
        """Seconds since a file was written, by the storage's clock: that of this machine may be wrong."""
        keys = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
        written = next((described[key] for key in keys if described.get(key) is not None), None)
        if written is None:
            written = self._files.modified(described["name"])
        return self._now() - (written.timestamp() if isinstance(written, datetime) else float(written))

    def _now(self) -> float:
        """Seconds since the epoch by the storage's clock."""
        return time.time() + self._clock_ahead

    def _shares(self, owner: str, *, of: str = "") -> list[StoredFile]:
        """The names of all shares of an owner, or those of one video."""
        folder, paths = self._places.path("results", owner), []
        with contextlib.suppress(FileNotFoundError), answering():
            paths = self._files.ls(folder, detail=False) if self._has_folders else self._files.find(folder, prefix=of)
        names = [path for path in paths if path.endswith(SHARE) and f"/{owner}/{of}" in path]
        return [StoredFile(path, math.nan) for path in names]

    def _shared(self, graph_id: str, owner: str, video_id: str) -> StoredResult | None:
        """The graph of a video as that of another one."""
        left = self._places.left(graph_id, owner)
        for path in (self._places.result(graph_id, owner, failed=False), left):
            if (described := self._described(path)) is not None:
                age = self._age(described)
                return StoredResult(self._files, path, described["size"], age, False, video_id, graph_id, left)
        return None

    def _described(self, path: str) -> dict[str, Any] | None:
        """What the storage says of a file; None where there is none."""
        with contextlib.suppress(FileNotFoundError), answering():
            described: dict[str, Any] = self._files.info(path)
            return described
        return None

    def _delete(self, path: str) -> bool:
        try:
            with answering():
                self._files.rm_file(path)
        except FileNotFoundError:
            return False
        return True

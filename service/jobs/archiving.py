"""The archive of the service: the rows of every graph that its workers make, and of none that was deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import structlog

from service.archive.errors import ArchiveError, ArchiveFull
from service.archive.folder import ArchiveFolder
from service.errors import ServiceError, SettingsError, StorageFull
from service.storage import Storage
from service.storage_errors import unavailable

log = structlog.get_logger(__name__)


class JobArchive:
    """The archive that `VSG_ARCHIVE` names; without it, it does nothing. All methods block.

    They raise StorageUnavailable, or StorageFull, when the archive does not answer. A video's key is made of the id of
    its job.
    """

    def __init__(self, url: str | None, storage: Storage) -> None:
        """Raises SettingsError where there is no such kind of storage, or a library is missing."""
        self._storage = storage
        self._folder: ArchiveFolder | None = None
        if url is None:
            return
        try:
            import pyarrow  # noqa: F401 - told now, not when the first video is done

            self._folder = ArchiveFolder(url)
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"VSG_ARCHIVE needs {error.name}, which is not installed: "
                "install it with: pip install 'video-scene-graph[archive]'"
            ) from error
        except ArchiveError as error:
            raise SettingsError(f"VSG_ARCHIVE is {url!r}: {error}") from error

    def make(self) -> None:
        """Makes the archive where there is none. Raises SettingsError where that fails."""
        if self._folder is None:
            return
        try:
            self._folder.make()
        except ArchiveFull:
            log.warning("the archive has no room left", archive=self._folder.url)
        except ArchiveError as error:
            raise SettingsError(f"VSG_ARCHIVE is {self._folder.url!r}: {error}") from error
        except Exception as error:  # each store raises errors of its own library
            raise SettingsError(
                f"VSG_ARCHIVE is {self._folder.url!r}, which cannot be written ({error}): give another folder or URL"
            ) from error

    def check(self) -> None:
        """Writes and deletes a small file."""
        if self._folder is not None:
            with _answering():
                self._folder.check()
                self._folder.probe()

    def add(self, video_id: str, owner: str) -> None:
        """Appends the graph of a job from its result, if there is one. To append it twice changes nothing."""
        if self._folder is None:
            return
        from service.archive.tables import Source, graph_rows
        from service.archive.writing import append
        from service.graph import GraphReader

        result = self._storage.result(video_id, owner)
        if result is None or result.failed:
            return
        try:
            rows = graph_rows(GraphReader(result.blocks()), Source(_key(video_id), owner=owner))
        except FileNotFoundError:  # it was deleted just now
            return
        with _answering():
            append(self._folder, rows)

    def delete(self, video_id: str) -> None:
        """Deletes a video: no reader sees it from now on, and its rows go with the next sweep."""
        if self._folder is not None:
            with _answering():
                self._folder.delete(_key(video_id))

    def has(self, video_id: str, owner: str) -> bool:
        """Whether the archive has a video of this owner."""
        if self._folder is None:
            return False
        from service.archive.reading import owner_of

        with _answering():
            self._folder.check()  # a folder that is away has no video
            return owner_of(self._folder, _key(video_id)) == owner

    def sweep(self, deleted: Collection[str]) -> None:
        """Deletes what was appended after its video was deleted, and compacts the archive where that is worth it."""
        if self._folder is None:
            return
        from service.archive.compaction import compact, needs_compaction
        from service.archive.reading import finished

        with _answering():
            for video in {_key(video_id) for video_id in deleted} & finished(self._folder):
                self._folder.delete(video)
            if needs_compaction(self._folder):
                compact(self._folder)


def _key(video_id: str) -> str:
    from service.archive.tables import video_key

    return video_key(video_id)


@contextmanager
def _answering() -> Iterator[None]:
    """Turns whatever the archive raises into StorageUnavailable or StorageFull."""
    try:
        yield
    except ArchiveFull as error:
        raise StorageFull("the archive of graphs is full: try again later") from error
    except ArchiveError as error:
        raise unavailable(error) from error
    except ServiceError:
        raise
    except Exception as error:  # stores raise errors of their own libraries
        raise unavailable(error) from error

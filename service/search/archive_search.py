"""Searches of one archive for many callers at once, each in the videos of its own."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Final, TypeVar

import structlog

from models.graph.vocabulary import Vocabulary
from service.archive.errors import ArchiveError
from service.archive.folder import ArchiveFolder
from service.archive.reading import files
from service.errors import ServiceError, StorageUnavailable
from service.search.errors import QueryError
from service.search.moments import Moments, find_moments, words_of
from service.search.queries import Query, parse
from service.search.words import Words

MOST_AT_ONCE: Final = 2
"""Searches that run at the same time; the others wait. Each uses all cores."""
_WORDS_SECONDS: Final = 30.0  # for which the words of an owner are remembered
_MOST_OWNERS: Final = 256  # whose words are remembered
_MOST_SEARCHES: Final = 64  # whose best moments are remembered
_MOST_MOMENTS: Final = 100  # of a search that are remembered

T = TypeVar("T")

log = structlog.get_logger(__name__)


class ArchiveSearch:
    """Searches an archive in threads, a few at once. `owner` is whose videos are searched; None for all.

    All methods raise StorageUnavailable where the archive does not answer, and SearchTooSlow.
    """

    def __init__(self, folder: ArchiveFolder) -> None:
        self.folder = folder
        self._turn = asyncio.Semaphore(MOST_AT_ONCE)
        self._words: OrderedDict[str | None, tuple[float, Words]] = OrderedDict()
        self._searches: OrderedDict[Hashable, asyncio.Task[Moments]] = OrderedDict()

    async def find(
        self, text: str, owner: str | None, *, limit: int, offset: int, else_known: Sequence[Vocabulary] = ()
    ) -> Moments:
        """A page of the moments in which a query holds.

        The best moments are remembered while the archive has the same files, so that the next page, or somebody else
        who asks the same at this moment, costs nothing.

        else_known: vocabularies whose words are known while the owner has no video.

        Raises QueryError.
        """
        query = await self.parse(text, owner, else_known=else_known)
        if offset + limit > _MOST_MOMENTS:
            return await self.run(lambda: find_moments(self.folder, query, owner=owner, limit=limit, offset=offset))
        state = await self._answered(lambda: files(self.folder))
        key = (state.names, state.deleted, owner, text)
        asked = self._searches.get(key)
        if asked is None:
            asked = asyncio.create_task(
                self.run(lambda: find_moments(self.folder, query, owner=owner, limit=_MOST_MOMENTS))
            )
            asked.add_done_callback(lambda task: self._forget_failed(key, task))
            self._searches[key] = asked
            if len(self._searches) > _MOST_SEARCHES:
                self._searches.popitem(last=False)
        best = await asyncio.shield(asked)  # others may wait for it
        moments = best.moments[offset : offset + limit]
        end = offset + len(moments)
        return Moments(moments, best.total, end if moments and end < best.total else None)

    def _forget_failed(self, key: Hashable, task: asyncio.Task[Moments]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._searches.pop(key, None)

    async def parse(self, text: str, owner: str | None, *, else_known: Sequence[Vocabulary] = ()) -> Query:
        """Reads a query with the words of an owner's videos; for `else_known` see `find`. Raises QueryError."""
        known = self._words.get(owner)
        if known is not None and time.monotonic() - known[0] < _WORDS_SECONDS:
            try:
                return parse(text, known[1])
            except QueryError:
                pass  # a model with more words may have come since
        words = await self.words(owner)
        return parse(text, words if words.labels else Words.of(*else_known))

    async def words(self, owner: str | None) -> Words:
        """The words of the vocabularies of an owner's videos."""
        words = await self.run(lambda: words_of(self.folder, owner=owner))
        self._words[owner] = (time.monotonic(), words)
        self._words.move_to_end(owner)
        if len(self._words) > _MOST_OWNERS:
            self._words.popitem(last=False)
        return words

    async def run(self, work: Callable[[], T]) -> T:
        """Does a piece of work with the archive in a thread, when its turn has come."""
        async with self._turn:
            return await self._answered(work)

    async def _answered(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except ArchiveError as error:
            raise _unavailable(error) from error
        except ServiceError:
            raise
        except Exception as error:  # stores raise errors of their own libraries
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> StorageUnavailable:
    log.warning("the archive does not answer", error=repr(error))
    return StorageUnavailable("the archive of graphs does not answer: try again in a moment")

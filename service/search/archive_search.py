"""Searches of one archive for many callers at once, each in the videos of its own."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import structlog

from models.graph.vocabulary import Vocabulary
from service.archive.errors import ArchiveError
from service.archive.folder import ArchiveFolder
from service.errors import ServiceError, StorageUnavailable
from service.search.errors import QueryError
from service.search.moments import Moments, find_moments, words_of
from service.search.queries import Query, parse
from service.search.words import Words

MOST_AT_ONCE: Final = 4
"""Searches that run at the same time; the others wait. Each uses all cores."""
_REMEMBERED_SECONDS: Final = 30.0  # for the words of an owner
_MOST_REMEMBERED: Final = 256

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

    async def find(
        self, text: str, owner: str | None, *, limit: int, offset: int, else_known: Sequence[Vocabulary] = ()
    ) -> Moments:
        """A page of the moments in which a query holds.

        else_known: vocabularies whose words are known while the owner has no video.

        Raises QueryError.
        """
        query = await self.parse(text, owner, else_known=else_known)
        return await self.run(lambda: find_moments(self.folder, query, owner=owner, limit=limit, offset=offset))

    async def parse(self, text: str, owner: str | None, *, else_known: Sequence[Vocabulary] = ()) -> Query:
        """Reads a query with the words of an owner's videos; for `else_known` see `find`. Raises QueryError."""
        known = self._words.get(owner)
        if known is not None and time.monotonic() - known[0] < _REMEMBERED_SECONDS:
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
        if len(self._words) > _MOST_REMEMBERED:
            self._words.popitem(last=False)
        return words

    async def run(self, work: Callable[[], T]) -> T:
        """Does a piece of work with the archive in a thread."""
        async with self._turn:
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

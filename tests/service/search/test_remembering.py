"""What a service remembers of searches, and for how long."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.graph.vocabulary import ACTION_GENOME
from service.archive.folder import ArchiveFolder
from service.archive.writing import append
from service.errors import StorageUnavailable
from service.search.archive_search import ArchiveSearch
from service.search.errors import QueryError
from service.search.moments import find_moments
from tests.support.searched import video_rows

HELD = [("holding", f"{label}", 0.9 - 0.1 * number) for number, label in enumerate(("bed", "bag", "book"))]


@pytest.fixture
def folder(tmp_path: Path) -> ArchiveFolder:
    archive = ArchiveFolder(tmp_path / "archive")
    archive.make()
    append(archive, video_rows("aaaaaaaaaaaa", "me", None, HELD))
    return archive


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Notes each search that really reads the archive."""
    seen: list[dict[str, Any]] = []

    def noted(*arguments: Any, **rest: Any) -> Any:
        seen.append(rest)
        return find_moments(*arguments, **rest)

    monkeypatch.setattr("service.search.archive_search.find_moments", noted)
    return seen


async def test_pages_and_equal_searches_at_once_read_the_archive_once(
    folder: ArchiveFolder, searches: list[dict[str, Any]]
) -> None:
    search = ArchiveSearch(folder)
    ask = {"text": "person holding anything", "owner": "me"}
    first, second, last = await asyncio.gather(*(search.find(**ask, limit=1, offset=offset) for offset in range(3)))
    assert [len(page.moments) for page in (first, second, last)] == [1, 1, 1]
    assert [page.next for page in (first, second, last)] == [1, 2, None]
    assert [page.moments[0].score for page in (first, second, last)] == pytest.approx([0.9, 0.8, 0.7])
    beyond = await search.find(**ask, limit=1, offset=3)
    assert (beyond.moments, beyond.total, beyond.next) == ((), 3, None)
    assert len(searches) == 1
    await search.find(**ask, limit=100, offset=1)
    assert len(searches) == 2, "farther pages are read from the archive"


async def test_what_is_added_or_deleted_is_seen_at_once(folder: ArchiveFolder) -> None:
    search = ArchiveSearch(folder)

    async def count(owner: str) -> int:
        return (await search.find("person holding bed", owner, limit=20, offset=0)).total

    assert await count("me") == 1
    append(folder, video_rows("bbbbbbbbbbbb", "me", None, HELD))
    assert await count("me") == 2
    folder.hide("aaaaaaaaaaaa")
    assert await count("me") == 1


async def test_owners_share_nothing(folder: ArchiveFolder) -> None:
    search = ArchiveSearch(folder)
    append(folder, video_rows("bbbbbbbbbbbb", "you", None, [("holding", "bed", 0.5)]))
    mine, yours, of_all = [
        await search.find("person holding bed", owner, limit=20, offset=0) for owner in ("me", "you", None)
    ]
    assert [moment.video for moment in (*mine.moments, *yours.moments)] == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    assert of_all.total == 2


async def test_a_search_that_fails_is_tried_again(folder: ArchiveFolder) -> None:
    search = ArchiveSearch(folder)
    file = Path(folder.path("relations", "aaaaaaaaaaaa"))
    content = file.read_bytes()
    file.write_bytes(b"damaged")
    with pytest.raises(StorageUnavailable):
        await search.find("person holding bed", "me", limit=20, offset=0)
    file.write_bytes(content)
    assert (await search.find("person holding bed", "me", limit=20, offset=0)).total == 1


async def test_a_new_word_is_known_as_soon_as_a_video_has_it(folder: ArchiveFolder) -> None:
    search = ArchiveSearch(folder)
    with pytest.raises(QueryError, match="robot"):
        await search.find("robot", "me", limit=20, offset=0)
    wider = replace(ACTION_GENOME, objects=(*ACTION_GENOME.objects, "robot"))
    append(folder, video_rows("bbbbbbbbbbbb", "me", None, [("holding", "robot", 0.5)], wider))
    assert (await search.find("robot", "me", limit=20, offset=0)).total == 1

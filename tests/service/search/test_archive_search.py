"""Searches of an archive: pages, owners, deleted videos, and queries that try to reach more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from models.graph.vocabulary import PredicateGroup, Vocabulary
from service.archive.errors import ArchiveError
from service.archive.folder import ArchiveFolder
from service.archive.writing import append, append_many
from service.search import moments as searching
from service.search.errors import QueryError, SearchTooSlow
from service.search.moments import Moments, find_moments, words_of
from service.search.queries import parse
from tests.support.searched import video_rows

SECRET = Vocabulary(objects=("person", "prototype"), groups=(PredicateGroup(name="work", predicates=("soldering",)),))


@pytest.fixture
def archive(tmp_path: Path) -> ArchiveFolder:
    folder = ArchiveFolder(tmp_path / "it's an archive")
    folder.make()
    append(folder, video_rows("aaaaaaaaaaaa", "ann", "x/a.mp4", [("holding", "bed", 0.5), ("holding", "bag", 0.9)]))
    append(folder, video_rows("bbbbbbbbbbbb", "ann", None, [("holding", "bag", 0.7)]))
    append(folder, video_rows("cccccccccccc", "bob", "x/c.mp4", [("holding", "bag", 1.0)]))
    append(folder, video_rows("dddddddddddd", "bob", "x/d.mp4", [("soldering", "prototype", 1.0)], SECRET))
    return folder


def found(archive: ArchiveFolder, text: str, owner: str | None = None, **page: int) -> Moments:
    return find_moments(archive, parse(text, words_of(archive, owner=owner)), owner=owner, **page)


def test_the_best_moments_come_first_with_their_video_and_proof(archive: ArchiveFolder) -> None:
    best, *others = found(archive, "person holding anything b", "ann").moments
    assert (best.video, best.path, best.graph_id) == ("aaaaaaaaaaaa", "x/a.mp4", "graph-aaaaaaaaaaaa")
    assert (best.start, best.end, best.score, best.relation_score) == (1.0, 2.0, 0.9, None)
    assert best.objects == {"person": 1, "b": 3}
    (proof,) = best.relations
    assert (proof.subject, proof.predicate, proof.object, proof.object_label, proof.score) == (
        1,
        "holding",
        3,
        "bag",
        0.9,
    )
    assert [moment.score for moment in others] == [0.7, 0.5]


def test_pages_together_have_every_moment_once(archive: ArchiveFolder) -> None:
    pages = [found(archive, "person holding anything", "ann", limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [page.total for page in pages] == [3, 3, 3]
    assert [page.next for page in pages] == [2, None, None]
    assert [moment.score for page in pages for moment in page.moments] == [0.9, 0.7, 0.5]


def test_an_owner_finds_own_videos_only(archive: ArchiveFolder) -> None:
    assert {moment.video for moment in found(archive, "person holding bag", "bob").moments} == {"cccccccccccc"}
    assert {moment.video for moment in found(archive, "not bed", "bob").moments} == {"cccccccccccc", "dddddddddddd"}
    assert found(archive, "person", "bob").total == 2
    assert found(archive, "person").total == 4


def test_an_owner_learns_no_words_of_others(archive: ArchiveFolder) -> None:
    assert found(archive, "person soldering prototype", "bob").total == 1
    with pytest.raises(QueryError) as caught:
        found(archive, "person holding prototyp", "ann")
    assert "prototype" not in str(caught.value)
    with pytest.raises(QueryError, match="no graphs here"):
        found(archive, "person", "nobody")


HOSTILE = (
    "'; DROP TABLE relations; --",
    "' OR owner = 'bob' OR '1' = '1",
    "x' UNION SELECT * FROM read_parquet('{file}') --",
    "%",
    "*",
    "!",
    "_",
    "$owner",
    "{{owner}}",
    "x/c.mp4",
    "*c.mp4",
    "\\\\",
    "../c",
    "\x00",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_in_a_query_reaches_other_owners_rows(archive: ArchiveFolder, text: str) -> None:
    words = words_of(archive, owner="ann")
    for query in (f'person in video "{text}"', f'not bed in video "{text}"', f'video in video "{text}"'):
        result = find_moments(archive, parse(query, words), owner="ann", limit=100)
        assert {moment.video for moment in result.moments} <= {"aaaaaaaaaaaa", "bbbbbbbbbbbb"}
    for query in (f'"{text}"', f'person "{text}" bag', f'person holding "{text}" a'):
        with pytest.raises(QueryError):
            parse(query, words)


def test_names_of_a_vocabulary_are_no_sql_either(archive: ArchiveFolder) -> None:
    name = "x') OR owner = 'bob' OR ('' = '"
    group = PredicateGroup(name="g", predicates=(name,))
    vocabulary = Vocabulary(objects=("person", name), groups=(group,))
    append(archive, video_rows("eeeeeeeeeeee", "eve", None, [(name, name, 0.4)], vocabulary))
    for query in (f'person "{name}" "{name}"', f'"{name}"', f'person "{name}" "{name}" b and 1 "{name}"'):
        assert {moment.video for moment in found(archive, query, "eve").moments} == {"eeeeeeeeeeee"}
    assert found(archive, f'person "{name}" "{name}"', "eve").moments[0].objects == {"person": 1, name: 2}


def test_an_owner_with_a_hostile_name_is_only_a_name(archive: ArchiveFolder) -> None:
    with pytest.raises(QueryError, match="no graphs here"):
        found(archive, "person", "x' OR '' = '")


def test_the_database_of_an_archive_opens_no_other_file(archive: ArchiveFolder, tmp_path: Path) -> None:
    found(archive, "person")
    other = tmp_path / "other.csv"
    other.write_text("secret\n1\n")
    with searching._connection(archive.url) as connection:
        for statement in (
            f"SELECT * FROM read_csv('{other}')",
            f"SELECT * FROM '{other}'",
            "SELECT * FROM read_text('/etc/passwd')",
            "SELECT * FROM glob('/etc/*')",
            f"ATTACH '{tmp_path / 'new.db'}'",
            f"COPY (SELECT 1) TO '{tmp_path / 'new.csv'}'",
            "INSTALL httpfs",
            "SET enable_external_access = true",
            "SET allowed_directories = ['/']",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement).fetchall()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it's an archive", "other.csv"]


def test_the_database_of_graphs_in_memory_opens_no_file() -> None:
    with searching._connection() as connection, pytest.raises(duckdb.PermissionException):
        connection.execute("SELECT * FROM read_text('/etc/hostname')")


def test_deleted_videos_are_found_no_more(archive: ArchiveFolder) -> None:
    parts = [video_rows(name * 12, "ann", None, [("holding", "box", 0.9)]) for name in "fg"]
    append_many(archive, {name: pa.concat_tables(part[name] for part in parts) for name in parts[0]})
    assert found(archive, "person holding box").total == 2
    archive.hide("f" * 12)
    assert [moment.video for moment in found(archive, "person holding box").moments] == ["g" * 12]
    assert found(archive, "video").total == 5


def test_a_path_is_matched_as_a_whole_or_at_its_end(archive: ArchiveFolder) -> None:
    def paths(pattern: str) -> list[str]:
        return sorted(moment.path for moment in found(archive, f'video in video "{pattern}"').moments if moment.path)

    assert paths("a.mp4") == paths("x/a.mp4") == ["x/a.mp4"]
    assert paths(".mp4") == paths("A.mp4") == paths("x/_.mp4") == []
    assert paths("x/*") == ["x/a.mp4", "x/c.mp4", "x/d.mp4"]


def test_an_archive_without_videos_has_no_moments(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "empty")
    folder.make()
    assert find_moments(folder, parse("anything related_to anything", words_of(folder))) == Moments((), 0, None)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        words_of(ArchiveFolder(tmp_path))


def test_a_search_that_takes_too_long_is_given_up_and_others_go_on(archive: ArchiveFolder) -> None:
    append(archive, video_rows("hhhhhhhhhhhh", "ann", None, [("holding", "bag", 0.5)] * 3000))
    query = parse(" and ".join(["anything related_to anything"] * 6), words_of(archive))
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(find_moments, archive, query, seconds=0.5)
        others = [threads.submit(found, archive, "person holding bed", "ann") for _ in range(8)]
        assert {other.result().total for other in others} == {1}
        with pytest.raises(SearchTooSlow, match=r"longer than 0\.5 s"):
            slow.result()
    assert found(archive, "person holding bed").total == 1

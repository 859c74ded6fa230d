"""`search` of both clients, against a real service with an archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import vsg
from tests.conftest import Server
from tests.vsg.conftest import Connect


def test_moments_are_found_page_by_page(
    connect: Connect, start_server: Callable[..., Server], clip: Path, tmp_path: Path
) -> None:
    client = connect(start_server(archive=str(tmp_path / "archive"), keep_frames=1).url)
    graph = client.graph(clip)
    page = client.search("person holding cup a for 1s")
    (moment,) = page.moments
    assert isinstance(moment, vsg.Moment)
    assert (page.total, page.next, moment.video) == (1, None, graph.id)
    (relation,) = [relation for relation in graph.relations if relation.predicate == "holding"]
    assert (moment.start, moment.end, moment.score) == (relation.start, relation.end, relation.score)
    assert moment.objects == {"person": relation.subject, "a": relation.object}
    assert [(proof.predicate, proof.object_label) for proof in moment.relations] == [("holding", "cup/glass/bottle")]
    assert moment.picture == f"/videos/{graph.id}/frames/{graph.kept_frames[0]}.jpg"
    first = client.search("person related_to anything", limit=1)
    second = client.search("person related_to anything", limit=1, offset=first.next or 0)
    assert first.next == 1
    assert first.moments != second.moments


def test_a_query_that_is_not_understood_names_the_place_and_what_is_known(
    connect: Connect, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    client = connect(start_server(archive=str(tmp_path / "archive")).url)
    with pytest.raises(vsg.QueryError, match="'drinks_from' is not a known predicate") as caught:
        client.search("person drinks_from cup")
    assert (caught.value.line, caught.value.column, caught.value.status) == (1, 8, 422)
    assert "drinking_from" in caught.value.expected


def test_a_service_without_an_archive_says_so(connect: Connect, server: Server) -> None:
    with pytest.raises(vsg.NotFoundError, match="VSG_ARCHIVE"):
        connect(server.url).search("person")

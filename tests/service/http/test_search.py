"""GET /search: the moments in which a query holds, of the caller's own videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from service.keys import key_line
from tests.conftest import Server, serve
from tests.service.http.test_bad_input import problem_of


@pytest.fixture(scope="module")
def archived(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that keeps an archive and two frames of every graph."""
    archive = tmp_path_factory.mktemp("archive")
    settings = {"bundles": (tiny_bundle,), "archive": str(archive / "graphs"), "keep_frames": 2}
    with serve(tmp_path_factory.mktemp("data"), **settings) as running:
        yield running


def found(server: Server, query: str, **arguments: Any) -> dict[str, Any]:
    """The page of moments of a query."""
    answer = server.client.get("/search", params={"q": query, **arguments.pop("params", {})}, **arguments)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_moments_have_video_interval_ids_scores_and_a_picture(archived: Server, clip: Path) -> None:
    graph = archived.post(clip).json()
    page = found(archived, "person holding cup a for 1s")
    moment = next(moment for moment in page["moments"] if moment["video"] == graph["id"])
    (relation,) = [relation for relation in graph["relations"] if relation["predicate"] == "holding"]
    assert (moment["start"], moment["end"]) == (relation["start"], relation["end"])
    assert (moment["score"], moment["relation_score"]) == (relation["score"], None)
    assert moment["objects"] == {"person": relation["subject"], "a": relation["object"]}
    labels = {"subject_label": "person", "object_label": "cup/glass/bottle"}
    assert moment["relations"] == [relation | labels]
    picture = archived.client.get(moment["picture"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert archived.client.get(f"/videos/{moment['video']}").json() == graph


def test_moments_come_in_pages_the_best_first(archived: Server, clip: Path) -> None:
    for _ in range(2):
        archived.post(clip)
    whole = found(archived, "person related_to anything", params={"limit": 100})
    assert whole["total"] == len(whole["moments"]) > 3
    assert whole["next"] is None
    scores = [moment["score"] for moment in whole["moments"]]
    assert scores == sorted(scores, reverse=True)
    moments, offset = [], 0
    while offset is not None:
        page = found(archived, "person related_to anything", params={"limit": 3, "offset": offset})
        moments += page["moments"]
        offset = page["next"]
    assert moments == whole["moments"]


def test_what_never_happens_is_an_empty_page(archived: Server, clip: Path) -> None:
    archived.post(clip)
    assert found(archived, "person holding dish") == {"moments": [], "total": 0, "next": None}


@pytest.mark.parametrize(
    ("query", "column", "expected"),
    [
        ("person holds cup", 8, "holding"),
        ("person holding", 15, "a name"),
        ("person holding cup for", 23, "a duration"),
    ],
)
def test_a_wrong_query_is_a_problem_that_teaches(
    archived: Server, clip: Path, query: str, column: int, expected: str
) -> None:
    archived.post(clip)
    problem: dict[str, Any] = problem_of(archived.client.get("/search", params={"q": query}), 422, "invalid_query")
    assert (problem["line"], problem["column"]) == (1, column)
    assert any(expected in known for known in cast(list[str], problem["expected"]))
    assert f"column {column}" in problem["detail"]


def test_before_the_first_video_the_words_of_the_models_are_known(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server(archive=str(tmp_path / "archive"))
    assert found(server, "person holding cup")["total"] == 0
    problem_of(server.client.get("/search", params={"q": "person holding cap"}), 422, "invalid_query")


@pytest.mark.parametrize(
    ("params", "option"),
    [
        ({}, "q"),
        ({"q": ""}, "q"),
        ({"q": "person", "limit": "0"}, "limit"),
        ({"q": "person", "offset": "1_0"}, "offset"),
    ],
)
def test_a_wrong_parameter_is_named(archived: Server, params: dict[str, str], option: str) -> None:
    assert problem_of(archived.client.get("/search", params=params), 422, "invalid_option")["option"] == option


def test_without_an_archive_search_is_off(server: Server) -> None:
    problem = problem_of(server.client.get("/search", params={"q": "person"}), 404, "search_off")
    assert "VSG_ARCHIVE" in problem["detail"]


def test_owners_search_their_own_videos_only(start_server: Callable[..., Server], clip: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("".join(key_line(name, f"key of {name}") + "\n" for name in ("alice", "bob")))
    alice, bob = ({"authorization": f"Bearer key of {name}"} for name in ("alice", "bob"))
    server = start_server(keys=str(keys), archive=str(tmp_path / "archive"), rate_limit="6/minute")
    graph = server.post(clip, headers=alice).json()
    assert {moment["video"] for moment in found(server, "person", headers=alice)["moments"]} == {graph["id"]}
    assert found(server, "person", headers=bob)["total"] == 0
    assert found(server, 'person in video "*"', headers=bob)["total"] == 0
    problem_of(server.client.get("/search", params={"q": "person"}), 401, "key_missing")
    answers = [server.client.get("/search", params={"q": "person"}, headers=bob).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 200, 429]
    assert server.client.delete(f"/videos/{graph['id']}", headers=alice).status_code == 204
    assert found(server, "person", headers=alice)["total"] == 0, "what is deleted is not found"


def test_searches_are_counted_by_their_route(archived: Server) -> None:
    found(archived, "person")
    metrics = archived.client.get("/metrics").text
    assert 'vsg_requests_total{method="GET",route="/search",status="200"}' in metrics

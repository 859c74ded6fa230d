"""The tools of agents, called by the library's own client: over stdio, and over HTTP behind keys."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from models.graph.scene_graph import Relation, SceneGraph
from service.agents.server import create_agents_app
from service.agents.tools import QUERY_LANGUAGE, make_server
from service.archive.folder import ArchiveFolder
from service.archive.tables import Source, graph_rows, problem_rows, video_key
from service.archive.writing import append
from service.graph import GraphReader, write_graph
from service.http.web_server import WebServer
from service.jobs import ProcessLife
from service.keys import key_line
from service.prompt import count_tokens
from service.search.archive_search import ArchiveSearch
from service.settings import load_settings
from tests.support.graphs import frame, scene_graph
from tests.support.paths import ROOT
from tests.support.waiting import until

THINGS = [(1, "person", (0.0, 0.0, 9.0, 9.0)), (2, "cup/glass/bottle", (1.0, 1.0, 3.0, 3.0))]
TOOLS = {"list_vocabulary", "find_moments", "graph_window", "describe", "list_videos"}
MOMENT = {"video": "kitchen/morning.mp4", "start": 1.0, "end": 4.0, "score": 0.7, "relation_score": 0.6}
Connect = Callable[[], AbstractAsyncContextManager[Client]]


def held(start: float, end: float, predicate: str = "holding", score: float = 0.7) -> Relation:
    return Relation(
        subject=1, predicate=predicate, object=2, start=start, end=end, score=score, relation_score=score - 0.1
    )


def rows_of(graph: SceneGraph, source: Source) -> Any:
    out = BytesIO()
    fields = ("id", "video", "model", "options", "vocabulary", "frames", "relations", "warnings")
    parts = {name: getattr(graph, name) for name in fields}
    write_graph(out, prompt=lambda: "", timings=dict, **parts)
    return graph_rows(GraphReader([out.getvalue()]), source)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> ArchiveFolder:
    """A video of nobody's, one of alice's and one of bob's, and one that could not be read."""
    folder = ArchiveFolder(tmp_path_factory.mktemp("archive") / "graphs")
    folder.make()
    frames = [frame(index, float(index), THINGS, [(1, "holding", 2)]) for index in range(6)]
    relations = [held(1.0, 4.0), held(4.0, 5.0, "drinking_from", 0.5), held(0.0, 6.0, "touching", 0.3)]
    graph = scene_graph(frames, size=(16, 16), relations=relations, duration=6.0)
    append(folder, rows_of(graph, Source(video_key("a"), path="kitchen/morning.mp4")))
    for owner in ("alice", "bob"):
        own = graph.model_copy(update={"id": owner.ljust(32, "0")})
        append(folder, rows_of(own, Source(video_key(owner), owner=owner)))
    broken = Source(video_key("broken"), path="kitchen/broken.mp4")
    append(folder, problem_rows(broken, model="tiny", options="{}", problem="video_unreadable", detail="no frame"))
    return folder


@pytest.fixture
def over_stdio(archive: ArchiveFolder) -> Connect:
    """Connects to a `vsg mcp` of its own, as agents start one."""
    program = "from service.commands.mcp import mcp; mcp()"
    parameters = StdioServerParameters(
        command=sys.executable, args=["-c", program, archive.url], env={"PYTHONPATH": str(ROOT)}
    )
    return lambda: Client(stdio_client(parameters))


@pytest.fixture
def connect(archive: ArchiveFolder) -> Connect:
    """Connects to a server in this process."""

    async def everybody(context: Any) -> None:
        return None

    return lambda: Client(make_server(ArchiveSearch(archive), everybody))


@contextmanager
def serving(archive: ArchiveFolder, **settings: Any) -> Iterator[str]:
    """The URL of the tools, served as `vsg mcp --http` does."""
    loaded = load_settings({"shutdown_seconds": 1, "port": 0, **settings})
    server = WebServer(create_agents_app(loaded, archive), loaded, ProcessLife())  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@asynccontextmanager
async def over_http(url: str, key: str = "") -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx.AsyncClient(headers=headers, trust_env=False) as web,
        Client(streamable_http_client(f"{url}/mcp", http_client=web)) as client,
    ):
        yield client


async def answer(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool answers."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    content: dict[str, Any] = result.structured_content
    return content


async def error(client: Client, tool: str, **arguments: Any) -> str:
    """The words in which a tool refuses."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return "".join(part.text for part in result.content)


async def test_an_agent_lists_and_calls_every_tool_over_stdio(over_stdio: Connect) -> None:
    async with over_stdio() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == TOOLS
        assert tools["find_moments"].description == QUERY_LANGUAGE
        assert all(tool.annotations.read_only_hint for tool in tools.values())
        words = await answer(client, "list_vocabulary")
        assert words["subjects"] == ["person"]
        assert "holding" in words["predicates_subject_to_object"]
        assert "beneath" in words["predicates_object_to_subject"]
        assert "sofa/couch" in words["object_groups"]["furniture"]
        page = await answer(client, "find_moments", query="person a holding cup for 2s", limit=1)
        assert (page["total"], page["next"], page["note"]) == (3, 1, "")
        (moment,) = page["moments"]
        assert moment["objects"] == {"a": 1, "cup": 2}
        page = await answer(client, "find_moments", query='person holding cup in video "*morning*"')
        assert MOMENT.items() <= page["moments"][0].items()
        window = await answer(client, "graph_window", video="morning.mp4", start=4.5, end=9)
        assert window["video"] == "kitchen/morning.mp4"
        assert window["relations"] == [
            "0.0-6.0 s: person#1 touching cup/glass/bottle#2, score 0.30, pair 0.20",
            "4.0-5.0 s: person#1 drinking_from cup/glass/bottle#2, score 0.50, pair 0.40",
        ]
        things = ["person#1: 0.0-6.0 s, score 0.90", "cup/glass/bottle#2: 0.0-6.0 s, score 0.90"]
        assert window["objects"] == things
        described = await answer(client, "describe", video="kitchen/morning.mp4")
        assert "holds the cup or bottle (1 to 4 s)" in described["summary"]
        assert (described["duration"], described["objects"]) == (6.0, things)
        listed = await answer(client, "list_videos")
        assert listed["total"] == 4
        assert {"kitchen/morning.mp4", "alice".ljust(32, "0")} < {video["video"] for video in listed["videos"]}


async def test_a_wrong_call_is_an_error_that_teaches(connect: Connect) -> None:
    async with connect() as client:
        text = await error(client, "find_moments", query="person drinks_from cup")
        assert "line 1, column 8" in text
        assert "person drinks_from cup\n       ^" in text
        assert "drinking_from" in text
        assert "in_front_of person" in await error(client, "find_moments", query="person in_front_of table")
        assert "list_videos" in await error(client, "describe", video="nothing.mp4")
        assert "list_videos" in await error(client, "describe", video="*")
        assert "give an end after the start" in await error(client, "graph_window", video="morning.mp4", start=2, end=1)
        assert "max_tokens" in await error(client, "describe", video="morning.mp4", max_tokens=1)


async def test_every_answer_says_where_nothing_is_known(connect: Connect) -> None:
    async with connect() as client:
        page = await answer(client, "find_moments", query="person holding dish")
        assert (page["moments"], page["total"]) == ([], 0)
        assert "proves nothing" in page["note"]
        window = await answer(client, "graph_window", video="morning.mp4", start=7, end=9)
        assert (window["relations"], window["note"]) == ([], "nothing is known: the video ends at 6.0 s")
        for tool, more in (("graph_window", {"start": 0, "end": 1}), ("describe", {})):
            known = await answer(client, tool, video="broken.mp4", **more)
            assert known["note"] == "nothing is known of this video: no frame"


async def test_a_window_keeps_to_its_tokens_and_says_what_it_left_out(connect: Connect) -> None:
    async with connect() as client:
        window = await answer(client, "graph_window", video="morning.mp4", start=0, end=6, max_tokens=120)
    assert 0 < len(window["relations"]) < 3
    assert len(window["relations"]) + window["relations_left_out"] == 3
    assert count_tokens("\n".join(window["relations"] + window["objects"])) <= 120
    assert "holding" in window["relations"][0], "the best relation is kept"


async def test_over_http_a_key_sees_its_own_videos_only(archive: ArchiveFolder, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("".join(key_line(name, f"key of {name}") + "\n" for name in ("alice", "bob", "carol")))
    with serving(archive, keys=str(keys)) as url:
        async with over_http(url, "key of alice") as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
            assert (await answer(client, "list_vocabulary"))["subjects"] == ["person"]
            own = "alice".ljust(32, "0")
            assert [video["video"] for video in (await answer(client, "list_videos"))["videos"]] == [own]
            page = await answer(client, "find_moments", query="person holding cup")
            assert [moment["video"] for moment in page["moments"]] == [own]
            assert (await answer(client, "graph_window", video=own, start=0, end=2))["relations"]
            assert (await answer(client, "describe", video=own))["summary"]
            for video in ("bob".ljust(32, "0"), "kitchen/morning.mp4", video_key("bob")):
                assert "no video" in await error(client, "describe", video=video)
        async with over_http(url, "key of carol") as client:
            assert "no video of yours" in (await answer(client, "list_vocabulary"))["note"]
            assert "no video of yours" in (await answer(client, "list_videos"))["note"]
        answers = [
            httpx.post(f"{url}/mcp", json={}, headers=headers, trust_env=False)
            for headers in ({}, {"authorization": "Bearer wrong"})
        ]
    assert [(found.status_code, found.json()["code"]) for found in answers] == [
        (401, "key_missing"),
        (401, "key_wrong"),
    ]


async def test_over_http_calls_count_for_the_rate_limit(archive: ArchiveFolder) -> None:
    with serving(archive, rate_limit="2/minute") as url:
        async with over_http(url) as client:
            for _ in range(2):
                await answer(client, "list_vocabulary")
            assert "try again in" in await error(client, "list_vocabulary")


def test_the_description_teaches_the_language_in_under_600_tokens() -> None:
    assert 300 < count_tokens(QUERY_LANGUAGE) < 600

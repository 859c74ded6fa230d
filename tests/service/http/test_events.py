"""Server-sent events: what they tell, to whom they are not told twice, and what a stream costs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from service.http import streams
from service.jobs import Jobs, JobState
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.support.waiting import until

UNKNOWN = "0" * 32
ASYNC = {"prefer": "respond-async"}


@dataclass(frozen=True)
class Event:
    id: str
    name: str
    data: dict[str, Any]


def parsed(lines: Iterable[str]) -> list[Event]:
    """The events in the lines of a stream, without its comments."""
    found = []
    for block in "\n".join(lines).strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append(Event(fields["id"], fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> set[object]:
    """The streams of events that are open in this process."""
    open_now: set[object] = set()

    async def events(self: Jobs, video_id: str, owner: str) -> AsyncIterator[JobState]:
        mark = object()
        open_now.add(mark)
        try:
            async for state in follow(self, video_id, owner):
                yield state
        finally:
            open_now.discard(mark)

    follow = Jobs.events
    monkeypatch.setattr(Jobs, "events", events)
    return open_now


@pytest.mark.usefixtures("slow_engine")
def test_events_tell_the_progress_and_then_the_end(server: Server, long_clip: Path) -> None:
    place = server.post(long_clip, data={"fps": "0.2"}, headers=ASYNC).headers["location"]
    answer = server.client.get(f"{place}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    *before, end = parsed(answer.text.splitlines())
    video_id = place.removeprefix("/videos/")
    assert (end.name, end.data) == ("end", {"id": video_id, "status": "succeeded"})
    assert {event.name for event in before} == {"progress"}
    assert {event.data["status"] for event in before} <= {"queued", "running"}
    frames = [event.data["progress"]["frames"] for event in before if "progress" in event.data]
    assert frames == sorted(frames)
    assert 0 < frames[-1] <= before[-1].data["progress"]["expected"] == 24
    assert len({event.id for event in [*before, end]}) == len(before) + 1


def test_a_job_that_failed_ends_as_failed(server: Server, clip: Path) -> None:
    place = server.post(clip.read_bytes()[:100], headers=ASYNC).headers["location"]
    end = parsed(server.client.get(f"{place}/events").text.splitlines())[-1]
    assert (end.name, end.data["status"]) == ("end", "failed")


@pytest.mark.usefixtures("slow_engine")
def test_a_stream_of_a_deleted_job_ends_as_cancelled(server: Server, long_clip: Path) -> None:
    place = server.post(long_clip, data={"fps": "1"}, headers=ASYNC).headers["location"]
    with server.client.stream("GET", f"{place}/events") as answer:
        lines = answer.iter_lines()
        first = next(lines)
        server.client.delete(place)
        end = parsed([first, *lines])[-1]
    assert (end.name, end.data["status"]) == ("end", "cancelled")
    problem_of(server.client.get(f"{place}/events"), 404, "not_found")


@pytest.mark.usefixtures("slow_engine")
def test_a_client_that_reconnects_gets_no_event_twice(server: Server, long_clip: Path) -> None:
    place = server.post(long_clip, data={"fps": "0.2"}, headers=ASYNC).headers["location"]
    seen: list[Event] = []
    while not seen or seen[-1].name != "end":
        last = {"last-event-id": seen[-1].id} if seen else {}
        with server.client.stream("GET", f"{place}/events", headers=last) as answer:
            lines = []
            for line in answer.iter_lines():
                lines.append(line)
                if not line:  # one event, then the client leaves
                    break
        seen += parsed(lines)
    assert len({event.id for event in seen}) == len(seen) > 2


def test_after_the_end_a_client_gets_it_at_once_unless_it_has_seen_it(server: Server, clip: Path) -> None:
    place = server.post(clip).headers["location"] + "/events"
    for headers in ({}, {"last-event-id": "running-2"}, {"last-event-id": "é".encode()}):
        (end,) = parsed(server.client.get(place, headers=headers).text.splitlines())
        assert (end.name, end.data["status"]) == ("end", "succeeded")
    again = server.client.get(place, headers={"last-event-id": end.id})
    assert (again.status_code, again.text) == (204, "")


@pytest.mark.usefixtures("slow_engine")
def test_a_stream_without_events_is_kept_alive_by_comments(
    server: Server, long_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.05)
    place = server.post(long_clip, data={"fps": "0.2"}, headers=ASYNC).headers["location"]
    text = server.client.get(f"{place}/events").text
    assert "\n\n: keep-alive\n\n" in text
    assert parsed(text.splitlines())[-1].name == "end"


@pytest.mark.usefixtures("slow_engine")
def test_a_client_that_hangs_up_leaves_nothing(server: Server, long_clip: Path, followed: set[object]) -> None:
    place = server.post(long_clip, data={"fps": "4"}, headers=ASYNC).headers["location"]
    with server.client.stream("GET", f"{place}/events") as answer:
        lines = answer.iter_lines()  # once it is collected, the connection is closed
        first = next(line for line in lines if line.startswith("data:"))
        assert json.loads(first.removeprefix("data:"))["status"] in ("queued", "running")
        assert len(followed) == 1
    until(lambda: not followed)
    assert server.client.get(place).json()["status"] in ("queued", "running")
    server.client.delete(place)


@pytest.mark.usefixtures("slow_engine")
def test_a_stream_that_the_queue_breaks_off_closes_without_an_end(
    server: Server, long_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def events(self: Jobs, video_id: str, owner: str) -> AsyncIterator[JobState]:
        yield JobState(video_id, "queued")
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(Jobs, "events", events)
    place = server.post(long_clip, data={"fps": "1"}, headers=ASYNC).headers["location"]
    (only,) = parsed(server.client.get(f"{place}/events").text.splitlines())
    assert (only.name, only.data["status"]) == ("progress", "queued")
    server.client.delete(place)


@pytest.mark.usefixtures("slow_engine")
async def test_two_hundred_streams_are_open_at_once_without_a_thread_each(
    start_server: Callable[..., Server], long_clip: Path, followed: set[object]
) -> None:
    server = start_server()
    post = {"data": {"fps": "1"}, "headers": ASYNC}
    place = (await asyncio.to_thread(server.post, long_clip, **post)).headers["location"]
    request = f"GET {place}/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    threads = threading.active_count()

    async def follow(begun: asyncio.Semaphore) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request)
        await reader.readuntil(b"event: progress")
        begun.release()
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        return rest

    begun = asyncio.Semaphore(0)
    clients = [asyncio.create_task(follow(begun)) for _ in range(200)]
    for _ in clients:
        await begun.acquire()
    assert len(followed) == 200
    # The server's pool of threads for short work is there anyway, and has a fixed size.
    assert threading.active_count() - threads < 50
    await asyncio.to_thread(server.client.delete, place)
    assert all(b"event: end" in rest for rest in await asyncio.gather(*clients))
    until(lambda: not followed)

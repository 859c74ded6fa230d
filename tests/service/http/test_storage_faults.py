"""What callers and operators are told when the storage is away, full or slow to fill."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from tests.conftest import Server
from tests.service.jobs.test_storage_faults import away, fill, small_disk
from tests.support.waiting import until

__all__ = ["small_disk"]

Start = Callable[..., Server]


def problem_of(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert int(response.headers["Retry-After"]) > 0
    problem: dict[str, object] = response.json()
    assert problem["code"] == code
    return problem


def storage_is_up(server: Server) -> bool:
    return "vsg_storage_up 1.0" in server.client.get("/metrics").text


def test_storage_that_is_away_is_said_to_everybody_until_it_is_back(start_server: Start, clip: Path) -> None:
    server = start_server()
    place = server.post(clip).headers["Location"]
    assert server.client.get(place).status_code == 200
    with away(server.data):
        problem_of(server.post(clip), 503, "storage_unavailable")
        for path in (place, f"{place}/prompt", f"{place}/events"):
            problem_of(server.client.get(path), 503, "storage_unavailable")
        until(lambda: server.client.get("/health/ready").status_code == 503)
        assert "storage" in server.client.get("/health/ready").json()["detail"]
        assert server.client.get("/health/live").status_code == 200
        assert not storage_is_up(server)
        problem = problem_of(server.post(clip), 503, "storage_unavailable")
        assert str(server.data) not in str(problem)
    until(lambda: server.client.get("/health/ready").status_code == 200)
    assert storage_is_up(server)
    assert server.client.get(place).status_code == 200
    assert server.post(clip).status_code == 200
    assert server.uploads() == []


def test_a_video_deleted_while_storage_is_away_is_gone_when_it_is_back(start_server: Start, long_clip: Path) -> None:
    server = start_server(sweep_seconds=0.5)
    place = server.post(long_clip, headers={"Prefer": "respond-async"}).headers["Location"]
    with away(server.data):
        assert server.client.delete(place).status_code == 204
        assert server.client.get(place).status_code == 404
    assert server.client.get(place).status_code == 404
    until(lambda: not server.results())


def test_a_full_disk_is_answered_with_507(start_server: Start, clip: Path, small_disk: Path) -> None:
    server = start_server(data=small_disk / "data")
    assert server.post(clip).status_code == 200
    ballast = fill(small_disk)
    problem_of(server.post(clip.read_bytes() + bytes(400_000)), 507, "storage_full")
    until(lambda: server.client.get("/health/ready").status_code == 503)
    ballast.unlink()
    until(lambda: server.client.get("/health/ready").status_code == 200)
    assert server.post(clip).status_code == 200
    assert server.uploads() == []


def test_an_upload_that_arrives_slowly_is_not_swept(start_server: Start, clip: Path) -> None:
    server = start_server(upload_idle_seconds=1, sweep_seconds=0.1)
    content = clip.read_bytes()

    def slowly() -> Iterator[bytes]:
        size = len(content) // 8 + 1
        for first in range(0, len(content), size):
            time.sleep(0.6)
            yield content[first : first + size]

    answer = server.client.post("/videos", content=slowly(), headers={"Content-Type": "video/mp4"})
    assert answer.status_code == 200, answer.text


def test_an_upload_that_was_given_up_is_swept(start_server: Start) -> None:
    server = start_server(upload_idle_seconds=0.5, sweep_seconds=0.1)
    (server.data / "uploads" / f"{'1' * 32}.part").write_bytes(b"its API was killed")
    until(lambda: not server.uploads())

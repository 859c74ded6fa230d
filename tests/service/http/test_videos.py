"""What there is under /videos/{id}, before, during and after the job."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.graph.scene_graph import Frame, SceneGraph
from service import pipeline
from service.jobs import Jobs, JobState
from service.prompt import count_tokens
from service.scheduling import scheduler
from tests.conftest import Server, serve
from tests.service.http.test_bad_input import problem_of
from tests.support.videos import make_video
from tests.support.waiting import decoders, until

UNKNOWN = "0" * 32


def test_the_graph_can_be_read_again(server: Server, clip: Path) -> None:
    posted = server.post(clip)
    again = server.client.get(posted.headers["location"])
    assert (again.status_code, again.content) == (200, posted.content)


def test_a_graph_is_sent_with_its_length(server: Server, clip: Path) -> None:
    plain = {"accept-encoding": "identity"}
    posted = server.post(clip, headers=plain)
    for answer in (posted, server.client.get(posted.headers["location"], headers=plain)):
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(answer.content)
        SceneGraph.model_validate_json(answer.content)


def test_a_graph_that_is_deleted_while_it_is_looked_for_is_not_found(
    server: Server, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = server.post(clip).headers["location"]

    async def state(self: Jobs, video_id: str, owner: str) -> JobState:
        known = await look(self, video_id, owner)
        (server.data / "results" / "anonymous" / f"{video_id}.json").unlink()
        return known

    look = Jobs.state
    content = (server.data / "results" / "anonymous" / f"{place.removeprefix('/videos/')}.json").read_bytes()
    monkeypatch.setattr(Jobs, "state", state)
    for path, accept in (("", "*/*"), ("", "application/jsonl"), ("/prompt", "*/*")):
        problem_of(server.client.get(place + path, headers={"accept": accept}), 404, "not_found")
        (server.data / "results" / "anonymous" / f"{place.removeprefix('/videos/')}.json").write_bytes(content)


def test_frames_come_one_per_line_as_jsonl(server: Server, clip: Path) -> None:
    graph = server.post(clip).json()
    answer = server.client.get(f"/videos/{graph['id']}", headers={"accept": "application/jsonl"})
    assert answer.headers["content-type"] == "application/jsonl"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines == graph["frames"]
    assert all(Frame.model_validate(line) for line in lines)


def test_the_prompt_is_plain_text(server: Server, clip: Path) -> None:
    graph = server.post(clip).json()
    answer = server.client.get(f"/videos/{graph['id']}/prompt")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text == graph["prompt"]


def test_the_prompt_comes_as_messages_and_within_a_budget(server: Server, clip: Path) -> None:
    place = f"/videos/{server.post(clip).json()['id']}/prompt"
    messages = server.client.get(place, params={"format": "messages"}).json()
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"] == server.client.get(place).text
    short = server.client.get(place, params={"max_tokens": "60"})
    assert count_tokens(short.text) <= 60
    assert server.client.get(place, params={"max_tokens": "400"}).text == server.client.get(place).text


@pytest.mark.parametrize(("name", "text"), [("max_tokens", "1"), ("max_tokens", "many"), ("format", "song")])
def test_a_prompt_option_that_cannot_be_used_is_refused(server: Server, clip: Path, name: str, text: str) -> None:
    place = f"/videos/{server.post(clip).json()['id']}/prompt"
    problem = problem_of(server.client.get(place, params={name: text}), 422, "invalid_option")
    assert problem["option"] == name


@pytest.mark.parametrize("video_id", [UNKNOWN, "x", "..%2f..%2fetc%2fpasswd", "é", "a" * 3000])
@pytest.mark.parametrize("path", ["", "/prompt", "/events"])
def test_an_unknown_id_is_not_found(server: Server, video_id: str, path: str) -> None:
    problem_of(server.client.get(f"/videos/{video_id}{path}"), 404, "not_found")


def test_deleting_an_unknown_video_is_not_found(server: Server) -> None:
    problem_of(server.client.delete(f"/videos/{UNKNOWN}"), 404, "not_found")


def test_a_deleted_graph_is_gone(server: Server, clip: Path) -> None:
    place = server.post(clip).headers["location"]
    assert server.client.delete(place).status_code == 204
    for answer in (server.client.get(place), server.client.get(place + "/events"), server.client.delete(place)):
        problem_of(answer, 404, "not_found")


@pytest.mark.usefixtures("slow_engine")
def test_deleting_a_running_job_stops_it(start_server: Callable[..., Server], tmp_path: Path) -> None:
    # More frames than fit into the pipe from the decoder, which would otherwise end before the job does.
    many_frames = make_video(tmp_path / "many.mp4", seconds=60, rate=50)
    server = start_server()
    place = server.post(many_frames, data={"fps": "50"}, headers={"prefer": "respond-async"}).headers["location"]
    until(lambda: server.client.get(place).json()["status"] == "running" and decoders())
    assert server.client.delete(place).status_code == 204
    problem_of(server.client.get(place), 404, "not_found")
    until(lambda: not decoders())
    until(lambda: not server.uploads())
    assert not server.results()
    assert 'vsg_jobs_total{status="cancelled"} 1.0' in server.client.get("/metrics").text


@pytest.mark.usefixtures("slow_engine")
def test_deleting_a_waiting_job_takes_it_from_the_queue(start_server: Callable[..., Server], long_clip: Path) -> None:
    server = start_server(concurrency=1)
    running, waiting = (
        server.post(long_clip, data={"fps": "1"}, headers={"prefer": "respond-async"}).headers["location"]
        for _ in range(2)
    )
    until(lambda: server.client.get(running).json()["status"] == "running")
    assert server.client.get(waiting).json()["status"] == "queued"
    assert "vsg_queue_depth 1.0" in server.client.get("/metrics").text
    assert server.client.delete(waiting).status_code == 204
    problem_of(server.client.get(waiting), 404, "not_found")
    assert len(server.uploads()) == 1
    assert "vsg_queue_depth 0.0" in server.client.get("/metrics").text
    server.client.delete(running)
    until(lambda: not server.uploads())


@pytest.mark.usefixtures("slow_engine")
def test_the_prompt_and_the_frames_are_not_ready_before_the_graph(server: Server, long_clip: Path) -> None:
    place = server.post(long_clip, data={"fps": "1"}, headers={"prefer": "respond-async"}).headers["location"]
    problem_of(server.client.get(place + "/prompt"), 409, "not_ready")
    problem_of(server.client.get(place, headers={"accept": "application/jsonl"}), 409, "not_ready")
    server.client.delete(place)


def test_graphs_are_deleted_after_the_operators_retention(start_server: Callable[..., Server], clip: Path) -> None:
    server = start_server(retention=3.0, sweep_seconds=0.2)
    place = server.post(clip).headers["location"]
    assert server.client.get(place).status_code == 200
    until(lambda: server.client.get(place).status_code == 404, 20)
    until(lambda: not server.results())


def test_graphs_in_a_folder_of_the_operators_outlive_the_process(
    start_server: Callable[..., Server], clip: Path, tmp_path: Path
) -> None:
    place = start_server(data=tmp_path / "kept").post(clip).headers["location"]
    assert start_server(data=tmp_path / "kept").client.get(place).json()["status"] == "succeeded"


def test_an_internal_error_is_answered_without_its_trace(
    server: Server, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("secret path /srv/models")

    monkeypatch.setattr(pipeline, "build_prompt", broken)
    answer = server.post(clip)
    problem = problem_of(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert problem["job_id"] == answer.headers["location"].removeprefix("/videos/")
    until(lambda: not server.uploads())


def test_a_model_that_fails_on_a_video_is_a_problem_without_its_trace(
    start_server: Callable[..., Server], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("secret path /srv/models")

    server = start_server()
    with monkeypatch.context() as patched:
        patched.setattr(scheduler, "_gathered", broken)
        answer = server.post(clip)
    problem_of(answer, 500, "model_failed")
    assert "secret" not in answer.text
    assert server.post(clip).json()["status"] == "succeeded"


def send_half(server: Server, clip: Path, headers: str, start: bytes = b"") -> None:
    """Begins a request, sends part of the body, and hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"POST /videos HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode() + start)
        connection.sendall(clip.read_bytes()[:1500])
        until(server.uploads)


@pytest.mark.parametrize("kind", ["raw", "form"])
def test_a_client_that_hangs_up_while_sending_leaves_nothing(server: Server, clip: Path, kind: str) -> None:
    until(lambda: not server.uploads())
    if kind == "raw":
        send_half(server, clip, "Content-Type: video/mp4\r\nContent-Length: 1000000")
    else:
        start = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
        send_half(server, clip, "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000", start)
    until(lambda: not server.uploads())


def test_a_client_that_stops_sending_is_given_up(start_server: Callable[..., Server], clip: Path) -> None:
    server = start_server(upload_idle_seconds=0.3)
    head = "POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head.encode() + clip.read_bytes()[:1000])
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert not server.uploads()


@pytest.mark.usefixtures("slow_engine")
def test_a_client_that_hangs_up_while_waiting_cancels_its_job(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server()
    # More frames than fit into the pipe from the decoder, which would otherwise end before it is seen.
    content = make_video(tmp_path / "many.mp4", seconds=60, rate=50).read_bytes()
    head = (
        "POST /videos?fps=50 HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode() + content)
        until(lambda: decoders())
    until(lambda: not server.uploads() and not decoders())
    assert not server.results()


@pytest.mark.usefixtures("slow_engine")
def test_stopping_the_service_stops_its_jobs_and_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, long_clip: Path
) -> None:
    with serve(tmp_path, bundles=(tiny_bundle,), concurrency=1) as server:
        for _ in range(3):
            server.post(long_clip, data={"fps": "1"}, headers={"prefer": "respond-async"})
        until(lambda: decoders())
        began = time.monotonic()
    # Two runs of 120 frames would take twelve seconds.
    assert time.monotonic() - began < 10
    assert not decoders()
    assert not list((tmp_path / "uploads").iterdir())


@pytest.mark.usefixtures("slow_engine")
def test_a_service_that_is_stopped_while_a_deleted_job_still_ends_does_stop(
    tiny_bundle: Path, long_clip: Path, tmp_path: Path
) -> None:
    for number in range(4):
        with serve(tmp_path / str(number), bundles=(tiny_bundle,)) as server:
            place = server.post(long_clip, headers={"prefer": "respond-async"}).headers["location"]
            assert server.client.delete(place).status_code == 204

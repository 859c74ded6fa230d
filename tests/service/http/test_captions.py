"""GET /videos/{id}/caption, with a real endpoint behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.keys import key_line
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.support.chat import CAPTION, STREAM, body_of, chunk, hanging_after, refusal, stream
from tests.support.web import Web, serve_web

pytestmark = pytest.mark.usefixtures("no_proxy")
EVENTS = {"accept": "text/event-stream"}


def asking(web: Web, **changes: Any) -> dict[str, Any]:
    """The settings with which a service asks this endpoint."""
    return {"caption_base_url": f"http://127.0.0.1:{web.port}/v1", "caption_model": "m", **changes}


def caption_of(server: Server, clip: Path, **arguments: Any) -> httpx.Response:
    return server.client.get(f"{server.post(clip).headers['location']}/caption", **arguments)


def events_of(answer: httpx.Response) -> list[tuple[str, Any]]:
    events = [dict(line.split(": ", 1) for line in event.split("\n")) for event in answer.text.strip().split("\n\n")]
    return [(event["event"], json.loads(event["data"])) for event in events]


def test_without_an_endpoint_captions_are_off(server: Server, clip: Path) -> None:
    problem = problem_of(caption_of(server, clip), 404, "captions_off")
    assert "/prompt" in problem["detail"]


def test_a_caption_is_passed_on_as_text(start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(STREAM) as web:
        server = start_server(**asking(web, caption_key="sk-x"))
        place = server.post(clip).headers["location"]
        answer = server.client.get(f"{place}/caption", params={"max_tokens": "100"})
        messages = server.client.get(f"{place}/prompt", params={"format": "messages", "max_tokens": "100"}).json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "".join(CAPTION)
    assert body_of(web.requests[0])["messages"] == messages
    assert b"Bearer sk-x" in web.requests[0]


def test_a_caption_is_passed_on_as_events(start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(STREAM) as web:
        answer = caption_of(start_server(**asking(web)), clip, headers=EVENTS)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events_of(answer) == [*(("caption", {"text": piece}) for piece in CAPTION), ("end", {})]


def test_a_caption_is_passed_on_while_it_is_written(start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(hanging_after(stream(chunk("A person")))) as web:
        server = start_server(**asking(web))
        place = server.post(clip).headers["location"]
        with server.client.stream("GET", f"{place}/caption") as answer:
            assert next(answer.iter_text()) == "A person"


@pytest.mark.parametrize(
    ("upstream", "status", "code"),
    [
        (refusal("401 Unauthorized", "secret words of the endpoint"), 502, "caption_refused"),
        (refusal("400 Bad Request", "secret: too many tokens"), 422, "caption_too_long"),
        (refusal("429 Too Many Requests", "secret", "Retry-After: 1234"), 503, "caption_busy"),
        (stream(b"data: secret\n\n"), 502, "caption_failed"),
    ],
)
def test_a_failure_before_the_first_word_is_a_problem(
    start_server: Callable[..., Server], clip: Path, upstream: bytes, status: int, code: str
) -> None:
    with serve_web(upstream) as web:
        answer = caption_of(start_server(**asking(web)), clip, headers=EVENTS)
    problem_of(answer, status, code)
    assert "secret" not in answer.text
    assert str(web.port) not in answer.text
    if code == "caption_busy":
        assert answer.headers["retry-after"] == "1234"


def test_a_caption_that_takes_too_long_is_a_problem(start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(hanging_after(b"")) as web:
        problem_of(caption_of(start_server(**asking(web, caption_seconds=0.5)), clip), 504, "caption_timeout")


def test_a_caption_that_breaks_off_does_not_look_complete(start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(stream(chunk("A person"))) as web:
        server = start_server(**asking(web))
        with pytest.raises(httpx.RemoteProtocolError):
            caption_of(server, clip)
        *pieces, (name, problem) = events_of(caption_of(server, clip, headers=EVENTS))
        assert 'vsg_errors_total{code="caption_failed"} 2.0' in server.client.get("/metrics").text
    assert pieces == [("caption", {"text": "A person"})]
    assert (name, problem["code"]) == ("problem", "caption_failed")


def test_a_caption_of_another_owners_video_is_not_found(
    start_server: Callable[..., Server], clip: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("".join(key_line(name, f"key of {name}") + "\n" for name in ("alice", "bob")))
    alice, bob = ({"authorization": f"Bearer key of {name}"} for name in ("alice", "bob"))
    with serve_web(STREAM) as web:
        server = start_server(**asking(web, keys=str(keys)))
        place = server.post(clip, headers=alice).headers["location"]
        problem_of(server.client.get(f"{place}/caption", headers=bob), 404, "not_found")
        assert not web.requests
        assert server.client.get(f"{place}/caption", headers=alice).text == "".join(CAPTION)


def test_captions_count_for_the_rate_limit(start_server: Callable[..., Server], clip: Path) -> None:
    with serve_web(STREAM) as web:
        server = start_server(**asking(web, rate_limit="2/minute"))
        place = server.post(clip).headers["location"]
        assert server.client.get(f"{place}/caption").status_code == 200
        problem_of(server.client.get(f"{place}/caption"), 429, "rate_limited")
    assert len(web.requests) == 1


@pytest.mark.usefixtures("slow_engine")
def test_there_is_no_caption_before_the_graph(start_server: Callable[..., Server], long_clip: Path) -> None:
    with serve_web(STREAM) as web:
        server = start_server(**asking(web))
        place = server.post(long_clip, data={"fps": "1"}, headers={"prefer": "respond-async"}).headers["location"]
        problem_of(server.client.get(f"{place}/caption"), 409, "not_ready")
        server.client.delete(place)

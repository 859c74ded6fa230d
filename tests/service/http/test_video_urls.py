"""Videos that are posted as a URL, and webhooks that are asked for."""

from __future__ import annotations

import hashlib
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server, serve
from tests.service.http.test_bad_input import problem_of
from tests.support.waiting import until
from tests.support.web import Web, reply, serve_web

SECRET = f"whsec_{b64encode(bytes(32)).decode()}"


@pytest.fixture(scope="module")
def web(clip: Path) -> Iterator[Web]:
    """Serves the clip at /clip.mp4, what the other paths say, and at /endless the beginning of a clip, slowly."""
    content = clip.read_bytes()
    answers = {
        "/clip.mp4": reply(content),
        "/text": reply(b"This is not a video.\n" * 100),
        "/nothing": reply(b""),
        "/missing": reply(b"", "404 Not Found"),
        "/large": reply(b"", length=2_000_001),
        "/inside": reply(b"", "302 Found", "Location: http://127.0.0.2/clip.mp4"),
    }

    def answer(request: bytes, connection: socket.socket) -> None:
        path = request.split()[1].decode()
        if path == "/endless":
            connection.sendall(reply(content, length=1_900_000))
            connection.recv(1)
        else:
            connection.sendall(answers[path])

    with serve_web(answer) as running:
        yield running


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, web: Web, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that fetches from that server alone, and sends webhooks to one host."""
    settings = {
        "bundles": (tiny_bundle,),
        "max_body_bytes": 2_000_000,
        "upload_idle_seconds": 600,
        "url_hosts": f"127.0.0.1:{web.port},*",
        "url_networks": "127.0.0.1/32",
        "webhook_hosts": "hooks.test",
        "webhook_secret": SECRET,
    }
    with serve(tmp_path_factory.mktemp("data"), **settings) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left(server: Server) -> Iterator[None]:
    yield
    until(lambda: not server.uploads())


def post(server: Server, web: Web, path: str = "/clip.mp4", **fields: Any) -> Any:
    return server.client.post("/videos", json={"url": f"http://127.0.0.1:{web.port}{path}", **fields})


def test_a_video_at_a_url_gives_its_graph(server: Server, web: Web, clip: Path) -> None:
    answer = post(server, web, fps=1, end=1.5, max_frames=None, constraint="no", uncertainty=False)
    graph = answer.json()
    assert (answer.status_code, graph["status"]) == (200, "succeeded")
    assert graph["video"]["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert {name: graph["options"][name] for name in ("fps", "end", "constraint")} == {
        "fps": 1.0,
        "end": 1.5,
        "constraint": "no",
    }
    assert server.client.get(answer.headers["location"]).json() == graph


def test_options_beside_a_url_may_be_in_the_query(server: Server, web: Web) -> None:
    body = {"url": f"http://127.0.0.1:{web.port}/clip.mp4"}
    assert server.client.post("/videos?fps=1", json=body).json()["options"]["fps"] == 1
    twice = server.client.post("/videos?fps=1", json={**body, "fps": 1})
    assert problem_of(twice, 422, "invalid_option")["option"] == "fps"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fps", "2"),
        ("fps", True),
        ("fps", 0),
        ("fps", [1]),
        ("fps", None),
        ("top_k", 1.5),
        ("top_k", 0),
        ("uncertainty", "true"),
        ("uncertainty", 1),
        ("constraint", "some"),
        ("constraint", 1),
        ("end", {"seconds": 1}),
        ("webhook", 1),
        ("speed", 2),
        ("url", 7),
    ],
)
def test_a_json_option_of_a_wrong_type_or_value_is_refused(
    server: Server, web: Web, option: str, value: object
) -> None:
    seen = len(web.requests)
    assert problem_of(post(server, web, **{option: value}), 422, "invalid_option")["option"] == option
    assert len(web.requests) == seen, "nothing is fetched for it"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"url"', b"null", b"\xff", b"[" * 10_000, b'{"url": "' + b"x" * 20_000 + b'"}']
)
def test_a_body_that_is_no_json_object_is_refused(server: Server, body: bytes) -> None:
    answer = server.client.post("/videos", content=body, headers={"content-type": "application/json"})
    problem_of(answer, 400, "malformed_upload")


@pytest.mark.parametrize("name", ["fps", "url"])
def test_a_name_that_is_given_twice_in_the_json_is_refused(server: Server, web: Web, name: str) -> None:
    value = f'"http://127.0.0.1:{web.port}/clip.mp4"' if name == "url" else "1"
    body = f'{{"url": "http://127.0.0.1:{web.port}/clip.mp4", "{name}": {value}, "{name}": {value}}}'
    answer = server.client.post("/videos", content=body, headers={"content-type": "application/json"})
    assert problem_of(answer, 422, "invalid_option")["option"] == name


def test_json_without_a_url_is_refused(server: Server) -> None:
    problem_of(server.client.post("/videos", json={"fps": 1}), 400, "missing_video")


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "http://[::1]/", "http://127.0.0.2/", "file:///etc/passwd", "clip.mp4", ""]
)
def test_a_url_that_is_not_allowed_is_refused(server: Server, url: str) -> None:
    problem_of(server.client.post("/videos", json={"url": url}), 403, "url_not_allowed")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/inside", 403, "url_not_allowed"),
        ("/missing", 424, "url_unreachable"),
        ("/large", 413, "body_too_large"),
        ("/text", 415, "unsupported_media"),
        ("/nothing", 400, "empty_body"),
    ],
)
def test_a_url_that_cannot_be_fetched_is_a_problem(server: Server, web: Web, path: str, status: int, code: str) -> None:
    problem_of(post(server, web, path), status, code)


def test_a_server_that_stops_sending_is_given_up(start_server: Callable[..., Server], web: Web) -> None:
    impatient = start_server(url_hosts=f"*:{web.port}", url_networks="127.0.0.1/32", url_seconds=0.5)
    problem_of(post(impatient, web, "/endless"), 424, "url_stalled")
    until(lambda: not impatient.uploads())


def test_nothing_is_fetched_for_a_client_that_has_left(server: Server, web: Web) -> None:
    body = f'{{"url": "http://127.0.0.1:{web.port}/endless"}}'
    head = f"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"{head}\r\n\r\n{body}".encode())
        until(server.uploads)
    until(lambda: not server.uploads())


def test_a_webhook_that_the_operator_does_not_allow_is_refused(server: Server, web: Web, clip: Path) -> None:
    there = "https://hooks.test/told"
    for answer in (
        server.post(clip, data={"webhook": "https://other.test/"}),
        server.client.post("/videos?webhook=http://127.0.0.1/", content=b"x", headers={"content-type": "video/mp4"}),
        post(server, web, webhook="ftp://hooks.test/"),
    ):
        problem_of(answer, 403, "webhook_not_allowed")
    assert server.post(clip, data={"webhook": there, "fps": "1"}).status_code == 200
    assert post(server, web, webhook=there, fps=1).status_code == 200


def test_without_a_secret_there_are_no_webhooks(start_server: Callable[..., Server], clip: Path) -> None:
    answer = start_server(webhook_hosts="*").post(clip, data={"webhook": "https://hooks.test/"})
    problem_of(answer, 403, "webhook_not_allowed")


def test_the_openapi_document_has_the_json_body(server: Server) -> None:
    posting = server.client.get("/openapi.json").json()["paths"]["/videos"]["post"]
    schema = posting["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["url"]
    assert {"url", "webhook", "fps", "constraint"} <= schema["properties"].keys()
    assert "webhook" in {parameter["name"] for parameter in posting["parameters"]}

"""Keys over HTTP: who gets in where, whose videos are whose, and what every answer carries."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.openapi.models import OpenAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from service.http.access import FREE_PATHS
from service.http.middleware import SECURITY_HEADERS
from service.http.pages import PAGE_PATHS
from service.jobs.catalog import Catalog
from service.keys import new_key
from tests.conftest import Server, serve
from tests.service.http.test_bad_input import problem_of
from tests.service.test_keys import write_keys
from tests.support.paths import ROOT
from tests.support.waiting import until


@dataclass(frozen=True)
class Guarded:
    """A service with keys, and the headers of two who have one."""

    server: Server
    keys: Path
    alice: dict[str, str]
    bob: dict[str, str]

    def routes(self) -> list[tuple[str, str]]:
        """Method and path of every route of the application, with an id that is none."""
        found = []
        for context in iter_route_contexts(self.server.app.routes):
            route = context.original_route
            if isinstance(route, Mount):
                found.append(("GET", f"{route.path}/swagger-ui.css"))
            else:
                assert context.path is not None
                path = re.sub(r"{\w+}", "0" * 32, context.path)
                found += [(method, path) for method in sorted(context.methods or ())]
        return found


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    alice, bob = new_key(), new_key()
    keys = write_keys(folder / "keys", alice=alice, bob=bob)
    with serve(folder / "data", bundles=(tiny_bundle,), keys=keys) as server:
        yield Guarded(server, keys, {"authorization": f"Bearer {alice}"}, {"authorization": f"Bearer {bob}"})


def test_every_route_needs_a_key_except_health_and_the_page(guarded: Guarded) -> None:
    routes = guarded.routes()
    assert {"/videos", "/metrics", "/models", "/openapi.json", "/docs", "/health/live"} <= {path for _, path in routes}
    for method, path in [*routes, ("GET", "/nowhere"), ("PUT", "/videos"), ("OPTIONS", "/videos")]:
        if path in FREE_PATHS:
            assert guarded.server.client.request(method, path).status_code == 200
            continue
        for headers, code in (
            ({}, "key_missing"),
            ({"authorization": "Basic YTpi"}, "key_missing"),
            ({"authorization": "Bearer"}, "key_missing"),
            ({"authorization": f"Bearer {new_key()}"}, "key_wrong"),
            ({"authorization": "Bearer alice"}, "key_wrong"),
        ):
            answer = guarded.server.client.request(method, path, headers=headers)
            assert answer.headers["www-authenticate"] == "Bearer"
            if method == "HEAD":
                assert answer.status_code == 401
            else:
                problem_of(answer, 401, code)
        assert guarded.server.client.request(method, path, headers=guarded.alice).status_code != 401


def test_only_health_and_the_page_need_no_key() -> None:
    page = {path.name for path in (ROOT / "service" / "page").iterdir()}
    assert {"/", "/health/live", "/health/ready", *(f"/page/{name}" for name in page)} == FREE_PATHS


def test_a_path_that_resembles_a_free_one_needs_a_key(guarded: Guarded) -> None:
    for path in (
        "//health/live/../../models",
        "/health/live/",
        "/health/live/../../models",
        "/%2e/models",
        "/models?/",
    ):
        answer = guarded.server.client.get(guarded.server.url + path)
        assert answer.status_code == 401, path
    deceiving = {"host": "localhost/health/live?"}
    problem_of(guarded.server.client.get("/models", headers=deceiving), 400, "malformed_head")


def test_a_key_opens_every_route(guarded: Guarded, clip: Path) -> None:
    posted = guarded.server.post(clip, headers=guarded.alice)
    assert posted.status_code == 200
    place = posted.headers["location"]
    for path in (place, f"{place}/prompt", f"{place}/events", "/models", "/metrics", "/docs", "/openapi.json"):
        assert guarded.server.client.get(path, headers=guarded.alice).status_code == 200
    lower = {"Authorization": guarded.alice["authorization"].replace("Bearer", "bearer")}
    assert guarded.server.client.get(place, headers=lower).status_code == 200
    assert guarded.server.client.delete(place, headers=guarded.alice).status_code == 204


def test_the_videos_of_another_key_are_not_found_on_any_route(guarded: Guarded, clip: Path) -> None:
    place = guarded.server.post(clip, headers=guarded.alice).headers["location"]
    of_videos = [(method, path) for method, path in guarded.routes() if "0" * 32 in path]
    assert len(of_videos) >= 4
    for method, path in of_videos:
        path = path.replace(f"/videos/{'0' * 32}", place)
        problem_of(guarded.server.client.request(method, path, headers=guarded.bob), 404, "not_found")
    assert guarded.server.client.get(place, headers=guarded.alice).json()["status"] == "succeeded"


def test_a_key_that_is_taken_out_is_refused_without_a_restart(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    alice, bob = new_key(), new_key()
    server = start_server(keys=write_keys(tmp_path / "keys", alice=alice, bob=bob))
    headers = {"authorization": f"Bearer {alice}"}
    assert server.client.get("/models", headers=headers).status_code == 200
    write_keys(tmp_path / "keys", bob=bob)
    problem_of(server.client.get("/models", headers=headers), 401, "key_wrong")
    assert server.client.get("/models", headers={"authorization": f"Bearer {bob}"}).status_code == 200


def test_the_openapi_document_says_which_operations_need_a_key(guarded: Guarded, server: Server) -> None:
    schema = guarded.server.client.get("/openapi.json", headers=guarded.alice).json()
    OpenAPI.model_validate(schema)
    assert schema["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation.get("security") == (None if path in FREE_PATHS else [{"key": []}]), path
    assert "securitySchemes" not in server.client.get("/openapi.json").json()["components"]


def test_every_answer_carries_the_security_headers(
    guarded: Guarded, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("secret path /srv/models")

    place = guarded.server.post(clip, headers=guarded.alice).headers["location"]
    answers = [guarded.server.client.request(*route, headers=guarded.alice) for route in guarded.routes()]
    answers += [
        guarded.server.client.get("/models"),
        guarded.server.client.get("/nowhere", headers=guarded.alice),
        guarded.server.client.put("/videos", headers=guarded.alice),
        guarded.server.client.get(place, headers=guarded.alice),
        guarded.server.client.get(f"{place}/events", headers=guarded.alice),
    ]
    monkeypatch.setattr(Catalog, "models", broken)
    answers.append(guarded.server.client.get("/models", headers=guarded.alice))  # the last: it ends the connection
    assert {200, 401, 404, 405, 500} <= {answer.status_code for answer in answers}
    for answer in answers:
        for name, value in SECURITY_HEADERS.items():
            # The page has a policy of its own, and may be kept by the browser.
            may_differ = answer.request.url.path in PAGE_PATHS | {"/docs"}
            if not (may_differ and name in ("Content-Security-Policy", "Cache-Control")):
                assert answer.headers.get_list(name) == [value], answer.request.url
        assert "secret" not in answer.text


def test_the_documentation_loads_nothing_from_elsewhere(server: Server) -> None:
    page = server.client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert "http" not in page.text
    assert "http" not in policy
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(linked) == 3
    for link in linked:
        assert link == "data:," or server.client.get(f"/{link}").status_code == 200, link


def test_a_real_server_names_no_library_and_no_path(tiny_bundle: Path, tmp_path: Path) -> None:
    """Also in the answers that are the web server's own: to what is no HTTP, and to who asks for a WebSocket."""
    command = [sys.executable, "-m", "service.command_line", "serve", "--port", "0", "--bundle", str(tiny_bundle)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    log = tmp_path / "log"
    upgrade = (
        b"GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with log.open("w") as output, subprocess.Popen(command, cwd=ROOT, stderr=output, env=environment) as process:
        try:
            until(lambda: "Uvicorn running on" in log.read_text())
            port = re.search(r"http://[\d.]+:(\d+)", log.read_text())
            assert port is not None
            for request, status in (
                (b"nonsense\r\n\r\n", b"400"),
                (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"4"),
                (upgrade % b"videos", b"405"),
                (upgrade % b"nowhere", b"404"),
                (b"GET /models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"200"),
                (b"POST /videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999999\r\n\r\n", b"413"),
            ):
                answer = exchange(int(port[1]), request)
                assert answer.startswith(b"HTTP/1.1 " + status), answer
                assert b"\r\nserver:" not in answer.lower()
                for name in (
                    b"uvicorn",
                    b"starlette",
                    b"fastapi",
                    b"httptools",
                    b"h11",
                    b"websockets",
                    b"python",
                    b".py",
                ):
                    assert name not in answer.lower(), answer
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def exchange(port: int, request: bytes) -> bytes:
    """Sends bytes and reads the first of what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer and (received := connection.recv(65536)):
            answer += received
        return answer

"""Web pages: those of named origins may use the service, and no other reaches one that runs without keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from service.keys import new_key
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.service.test_keys import write_keys

APP = "https://app.example.org"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost"),
        *("192.168.0.1", "10.0.0.1:8000", "[2001:db8::1]", "0.0.0.0", "1127.0.0.1", "[::2]", "2130706433", "x"),
    ],
)
def test_a_service_without_keys_does_not_answer_to_other_names(server: Server, clip: Path, host: str) -> None:
    for method, path in (("GET", "/models"), ("GET", "/"), ("GET", "/openapi.json"), ("DELETE", "/videos/x")):
        problem_of(server.client.request(method, path, headers={"host": host}), 403, "host_not_allowed")
    problem_of(server.post(clip, headers={"host": host}), 403, "host_not_allowed")
    assert server.uploads() == []


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "a.localhost:8000",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:8000",
            "[::1]",
        ),
        "[::ffff:127.0.0.1]",
    ],
)
def test_a_service_without_keys_answers_to_every_name_of_this_machine(server: Server, host: str) -> None:
    assert server.client.get("/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:9", "http://127.0.0.1", "file://", "nonsense", ""]
)
def test_a_service_without_keys_is_of_no_use_to_other_pages(server: Server, clip: Path, origin: str) -> None:
    headers = {"origin": origin}
    for method, path in (("GET", "/models"), ("GET", "/"), ("DELETE", "/videos/x"), ("OPTIONS", "/videos")):
        problem_of(server.client.request(method, path, headers=headers), 403, "origin_not_allowed")
    problem_of(server.post(clip, headers=headers), 403, "origin_not_allowed")
    assert server.uploads() == []


def test_its_own_page_may_use_it(server: Server, clip: Path) -> None:
    for host, origin in (
        (f"127.0.0.1:{server.port}", server.url),
        (f"localhost:{server.port}", f"http://localhost:{server.port}"),
        ("localhost", "http://localhost"),
        ("localhost:443", "https://localhost"),
        ("[::1]:8000", "http://[::1]:8000"),
    ):
        assert server.post(clip, headers={"host": host, "origin": origin}).status_code == 200, origin


def test_pictures_and_scripts_of_other_pages_are_refused_and_links_are_not(server: Server) -> None:
    for site in ("cross-site", "same-site"):
        for mode in ("no-cors", "cors"):
            headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
            problem_of(server.client.get("/models", headers=headers), 403, "origin_not_allowed")
        link = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
        assert server.client.get("/", headers=link).status_code == 200
        problem_of(server.client.post("/videos", headers=link), 403, "origin_not_allowed")
    for site in ("same-origin", "none"):
        assert server.client.get("/models", headers={"sec-fetch-site": site}).status_code == 200


def test_the_operator_names_further_hosts(start_server: Callable[..., Server]) -> None:
    server = start_server(allowed_hosts="graphs.example.org, *.inner, box:8443")
    for host in ("graphs.example.org", "GRAPHS.example.org:444", "a.inner", "box:8443"):
        assert server.client.get("/models", headers={"host": host}).status_code == 200, host
        same = {"host": host, "origin": f"https://{host.lower()}"}
        assert server.client.get("/models", headers=same).status_code == 200, host
    for host in ("example.org", "box", "box:1", "inner", "a.inner.evil.example"):
        problem_of(server.client.get("/models", headers={"host": host}), 403, "host_not_allowed")


def test_with_keys_hosts_and_origins_do_not_matter(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server(keys=write_keys(tmp_path / "keys", alice=(key := new_key())))
    headers = {"authorization": f"Bearer {key}", "host": "any.example", "origin": "https://other.example"}
    answer = server.client.get("/models", headers=headers)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("with_keys", [False, True])
def test_pages_of_named_origins_may_use_the_service(
    start_server: Callable[..., Server], tmp_path: Path, clip: Path, with_keys: bool
) -> None:
    key = new_key()
    settings = {"keys": write_keys(tmp_path / "keys", alice=key)} if with_keys else {}
    server = start_server(cors_origins=f"{APP},http://localhost:3000", **settings)
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, idempotency-key, prefer",
    }
    allowed = server.client.options("/videos", headers={"origin": APP, **asked})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == APP
    assert "DELETE" in allowed.headers["access-control-allow-methods"]
    posted = server.post(clip, headers={"origin": APP, "authorization": f"Bearer {key}"})
    assert posted.status_code == 200
    assert posted.headers["access-control-allow-origin"] == APP
    assert "Location" in posted.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in posted.headers
    assert "Origin" in posted.headers["vary"]
    refused = server.client.options("/videos", headers={"origin": "https://evil.example", **asked})
    problem_of(refused, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in refused.headers
    other = server.post(clip, headers={"origin": "https://evil.example", "authorization": f"Bearer {key}"})
    assert "access-control-allow-origin" not in other.headers
    assert other.status_code == (200 if with_keys else 403)
    failed = server.post(b"text", headers={"origin": APP, "authorization": f"Bearer {key}"})
    assert (failed.status_code, failed.headers["access-control-allow-origin"]) == (415, APP), "pages read problems too"


def test_all_origins_may_be_named_at_once(start_server: Callable[..., Server]) -> None:
    server = start_server(cors_origins="*")
    answer = server.client.get("/models", headers={"origin": "https://any.example"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    problem_of(server.client.get("/models", headers={"host": "evil.example"}), 403, "host_not_allowed")


def test_without_the_setting_no_page_is_let_in(server: Server) -> None:
    assert not [name for name in server.client.get("/models").headers if name.startswith("access-control")]

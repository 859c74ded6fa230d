"""Rules of HTTP that hold for every path."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.http.conventions import read_quality
from service.keys import new_key
from tests.conftest import Server
from tests.service.http.test_bad_input import problem_of
from tests.service.test_keys import write_keys
from tests.support.sockets import exchange


@pytest.fixture(scope="module")
def place(server: Server, clip: Path) -> str:
    """The path of a finished graph."""
    posted = server.post(clip, params={"fps": "10"})
    assert posted.status_code == 200
    return str(posted.headers["location"])


def paths(place: str) -> list[str]:
    """A path of every route that takes GET, and some that do not exist."""
    videos = [place, f"{place}?format=jsonl", f"{place}/prompt", f"{place}/events", f"{place}/caption"]
    own = ["/models", "/health/live", "/health/ready", "/docs", "/openapi.json", "/", "/page/main.js"]
    return [*videos, *own, "/docs/files/swagger-ui.css", "/nowhere", "/videos/none", f"{place}?format=no", "/videos"]


def test_head_is_answered_as_get_without_the_body(server: Server, place: str) -> None:
    for path in paths(place):
        got, asked = (server.client.request(method, path) for method in ("GET", "HEAD"))
        assert (asked.status_code, asked.content) == (got.status_code, b""), path
        names = (set(got.headers) | set(asked.headers)) - {"date", "transfer-encoding"}
        for name in names:
            assert asked.headers.get(name) == got.headers.get(name), (path, name)


def test_head_leaves_the_connection_usable(server: Server, place: str) -> None:
    head, get = (f"{method} {place} HTTP/1.1\r\nHost: localhost\r\n" for method in ("HEAD", "GET"))
    answer = exchange(server.port, f"{head}\r\n{get}Connection: close\r\n\r\n".encode())
    assert answer is not None
    assert answer.content.count(b"HTTP/1.1 200 OK") == 1
    assert answer.content.endswith(b'"warnings":[]}\n') or b'"prompt"' in answer.content


def test_what_is_allowed_names_head_where_it_names_get(server: Server, place: str) -> None:
    assert problem_of(server.client.put(place), 405, "method_not_allowed")
    assert server.client.put(place).headers["allow"] == "GET, HEAD, DELETE"
    assert server.client.put("/videos").headers["allow"] == "POST"


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"Host: localhost\r\nHost: localhost\r\n",
        b"Host: localhost\r\nhost: evil.example\r\n",
        b"Host: \r\n",
        b"Host: a b\r\n",
        b"Host: localhost/health\r\n",
        b"Host: user@localhost\r\n",
        b"Host: localhost:80:80\r\n",
        b"Host: localhost:port\r\n",
        b"Host: [::1\r\n",
        *(
            b"Host: localhost\r\n%s: 1\r\n%s: 2\r\n" % (name, name.upper())
            for name in (
                b"Authorization",
                b"Content-Type",
                b"Idempotency-Key",
                b"Last-Event-ID",
                b"Origin",
                b"User-Agent",
                b"If-Modified-Since",
                b"Range",
            )
        ),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(server: Server, headers: bytes) -> None:
    for line in (b"GET /models", b"GET /", b"POST /videos", b"DELETE /videos/x", b"GET /health/live"):
        answer = exchange(server.port, line + b" HTTP/1.1\r\nConnection: close\r\n" + headers + b"\r\n")
        assert answer is not None
        problem_of(answer, 400, "malformed_head")


def test_lists_may_be_given_in_several_headers(server: Server, place: str) -> None:
    several = [("Accept", "text/html"), ("Accept", "application/jsonl"), ("Accept-Encoding", "br")]
    answer = server.client.get(place, headers=[*several, ("Accept-Encoding", "gzip"), ("Prefer", "a"), ("Prefer", "b")])
    assert answer.headers["content-type"] == "application/jsonl"
    assert answer.headers["content-encoding"] == "gzip"


def test_http_1_0_needs_no_host(server: Server) -> None:
    answer = exchange(server.port, b"GET /models HTTP/1.0\r\n\r\n")
    assert answer is not None
    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("query", ["fromat=jsonl", "x", "fps=2", "Format=json", "format=json&format=json", "%C3%A9=1"])
def test_a_parameter_that_an_address_does_not_have_is_refused(
    server: Server, place: str, method: str, query: str
) -> None:
    addresses = {
        "GET": [place, f"{place}/prompt", f"{place}/caption", f"{place}/events", "/models", "/metrics", "/health/live"],
        "DELETE": [place],
    }
    for address in [*addresses.get(method, addresses["GET"]), "/videos/unknown"]:
        answer = server.client.request(method, f"{address}?{query}")
        if method == "HEAD":
            assert answer.status_code == 422, address
            continue
        problem = problem_of(answer, 422, "invalid_option")
        assert str(problem["option"]).lower() in httpx.QueryParams(query.lower()), address


@pytest.mark.parametrize("text", ["1_00", "٦٠", "\uff16\uff10", "1e2", "0x60"])
def test_the_numbers_of_other_addresses_are_written_in_plain_digits(server: Server, place: str, text: str) -> None:
    answer = server.client.get(f"{place}/prompt", params={"max_tokens": text})
    assert problem_of(answer, 422, "invalid_option")["option"] == "max_tokens"


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        *((text, True) for text in ("gzip", "GZIP", "br, gzip;q=0.5", "x-gzip", "gzip; q=1.000")),
        *(
            (text, False)
            for text in ("", "identity", "br", "gzip;q=0", "gzip;q=0.000, identity", "gzip;q=x", "gzipped")
        ),
    ],
)
@pytest.mark.parametrize("format", ["json", "jsonl", "graphml", "coco"])
def test_graphs_are_compressed_for_those_who_ask(
    server: Server, place: str, format: str, accepted: str, compressed: bool
) -> None:
    plain = server.client.get(place, params={"format": format}, headers={"accept-encoding": "identity"})
    with server.client.stream("GET", place, params={"format": format}, headers={"accept-encoding": accepted}) as answer:
        content = b"".join(answer.iter_raw())
    assert answer.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert (answer.headers.get("content-encoding") == "gzip") == compressed
    if compressed:
        assert len(content) < len(plain.content) / 3
        content = gzip.decompress(content)
    assert content == plain.content


def test_events_and_small_answers_are_not_compressed(server: Server, place: str) -> None:
    for path in (f"{place}/events", "/health/live"):
        answer = server.client.get(path, headers={"accept-encoding": "gzip"})
        assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(("text", "value"), [("q=0.5", 0.5), ("Q=1", 1.0), ("q=nan", 0), ("q=1_0", 0), ("q=-1", 0)])
def test_a_malformed_quality_is_none(text: str, value: float) -> None:
    assert read_quality([text.lower()]) == value


@pytest.fixture
def behind(start_server: Callable[..., Server]) -> Server:
    """A service that a proxy offers under /graphs/v1."""
    return start_server(path_prefix="/graphs/v1")


@pytest.mark.parametrize("left", ["", "/graphs/v1"])
def test_behind_a_prefix_every_address_has_it(behind: Server, clip: Path, left: str) -> None:
    """`left`: what the proxy leaves of the prefix in the path."""
    files = {"video": ("clip.mp4", clip.read_bytes())}
    posted = behind.client.post(f"{left}/videos", files=files)
    assert posted.headers["location"] == f"/graphs/v1/videos/{posted.json()['id']}"
    asked = behind.client.post(f"{left}/videos", files=files, headers={"prefer": "respond-async"})
    assert asked.headers["location"] == f"/graphs/v1/videos/{asked.json()['id']}"
    place = posted.headers["location"].removeprefix("/graphs/v1")
    assert behind.client.get(left + place).json()["id"] == posted.json()["id"]
    schema = behind.client.get(f"{left}/openapi.json").json()
    assert schema["servers"] == [{"url": "/graphs/v1"}]
    for path in ("/", "/page/main.js", "/docs", "/docs/files/swagger-ui.css", "/models", "/health/ready"):
        assert behind.client.get(left + path).status_code == 200, path
    problem = problem_of(behind.client.get(f"{left}/videos/none"), 404, "not_found")
    assert problem["instance"] == "/graphs/v1/videos/none"
    caption = problem_of(behind.client.get(f"{left}{place}/caption"), 404, "captions_off")
    assert f"/graphs/v1{place}/prompt" in str(caption["detail"])
    assert behind.client.delete(left + place).status_code == 204


def test_a_prefix_opens_no_way_around_keys(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server(path_prefix="/graphs", keys=write_keys(tmp_path / "keys", alice=new_key()))
    for path in ("/graphs/models", "/models", "/graphs/graphs/health/live", "/graphsx/health/live", "/metrics"):
        assert server.client.get(path).status_code == 401, path
    for path in ("/graphs/health/live", "/health/live", "/graphs/", "/graphs/page/main.js"):
        assert server.client.get(path).status_code == 200, path


def test_without_a_prefix_the_document_names_no_server(server: Server) -> None:
    assert "servers" not in json.loads(server.client.get("/openapi.json").text)

"""Videos from URLs: what is fetched, and what is never connected to."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import aclosing
from ipaddress import IPv4Network, ip_address
from typing import Any

import pytest
import trustme

from service.fetching import FetchPolicy, HostPattern, fetch
from service.fetching.addresses import may_be_reached
from service.fetching.errors import BodyTooLarge, UrlNotAllowed, UrlStalled, UrlUnreachable
from tests.support.web import Web, reply, serve_web

HERE = (IPv4Network("127.0.0.1/32"),)


class Names:
    """A resolver: gives each name its answers in turn, the last one for ever, and remembers what it was asked.

    An address means itself.
    """

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self._answers:
            try:
                return [str(ip_address(host))]
            except ValueError:
                raise socket.gaierror("no such name") from None
        answers = self._answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def policy_for(*hosts: str, **changes: Any) -> FetchPolicy:
    names = Names(videos_test=[["127.0.0.1"]])
    return FetchPolicy(tuple(map(HostPattern.parse, hosts)), **{"networks": HERE, "resolve": names, **changes})


async def fetched(url: str, policy: FetchPolicy) -> bytes:
    async with aclosing(fetch(url, policy)) as blocks:
        return b"".join([block async for block in blocks])


def url_of(web: Web, path: str = "/clip.mp4") -> str:
    return f"http://videos.test:{web.port}{path}"


async def test_a_video_comes_from_a_host_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with serve_web(reply(b"video" * 100_000)) as web:
        assert await fetched(url_of(web, "/a%20b?c=d#e"), policy_for(f"*.test:{web.port}")) == b"video" * 100_000
    head = web.requests[0].decode().lower()
    assert head.startswith("get /a%20b?c=d http/1.1\r\n")
    assert f"host: videos.test:{web.port}\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert "python" not in head, "nobody learns what the service is made of"


async def test_a_body_without_a_length_ends_where_it_ends() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvideo\r\n0\r\n\r\n"
    with serve_web(chunked) as web:
        assert await fetched(url_of(web), policy_for(f"videos.test:{web.port}")) == b"video"
    with serve_web(b"HTTP/1.0 200 OK\r\n\r\nvideo") as web:
        assert await fetched(url_of(web), policy_for(f"videos.test:{web.port}")) == b"video"


@pytest.mark.parametrize(
    ("pattern", "host", "port", "matches"),
    [
        ("example.org", "example.org", 443, True),
        ("example.org", "example.org", 80, True),
        ("example.org", "example.org", 8080, False),
        ("example.org:8080", "example.org", 8080, True),
        ("example.org:8080", "example.org", 443, False),
        ("example.org", "an.example.org", 443, False),
        ("*.example.org", "an.example.org", 443, True),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "badexample.org", 443, False),
        ("*.example.org", "example.org.evil.test", 443, False),
        ("*", "anything.test", 443, True),
        ("*", "anything.test", 22, False),
        ("EXAMPLE.org", "example.org", 443, True),
        ("[::1]:8080", "::1", 8080, True),
    ],
)
def test_which_hosts_a_pattern_means(pattern: str, host: str, port: int, matches: bool) -> None:
    assert HostPattern.parse(pattern).matches(host, port) is matches


@pytest.mark.parametrize("text", ["", "https://example.org", "example.org/", "*example.org", "a:0", "a:70000", "::1"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        HostPattern.parse(text)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://videos.test:70/_",
        "ftp://videos.test/clip.mp4",
        "videos.test/clip.mp4",
        "//videos.test/clip.mp4",
        "http:///clip.mp4",
        "http://videos.test:99999/",
        "http://[::1/",
        "http://videos.test/\x00",
        "",
    ],
)
async def test_only_urls_of_http_with_a_host_are_urls(url: str) -> None:
    names = Names()
    with pytest.raises(UrlNotAllowed):
        await fetched(url, policy_for("*", resolve=names))
    assert names.asked == []


@pytest.mark.parametrize("user", ["user:password@", "user@", "evil.test\\@"])
async def test_a_url_with_a_user_is_refused(user: str) -> None:
    with pytest.raises(UrlNotAllowed, match="user name or a password"):
        await fetched(f"http://{user}videos.test/", policy_for("*"))


NOT_PUBLIC = [
    "127.0.0.1",
    "127.8.9.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "fc00::1",
    "fe80::1",
    "fe80::1%1",
    "2606:4700::1%1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    names = Names(videos_test=[[address]])
    with pytest.raises(UrlNotAllowed):
        await fetched("http://videos.test/", policy_for("*", resolve=names, networks=()))
    assert names.asked == ["videos.test"]


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:4700::1111", "::ffff:93.184.215.14", "64:ff9b::5db8:d70e", "2002:5db8:d70e::1"]
)
def test_public_addresses_may_be_reached_in_all_their_forms(address: str) -> None:
    assert may_be_reached(address, ())


async def test_one_private_address_among_public_ones_is_refused() -> None:
    names = Names(videos_test=[["93.184.215.14", "10.0.0.1"]])
    with pytest.raises(UrlNotAllowed):
        await fetched("http://videos.test/", policy_for("*", resolve=names))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost.",
        "127.1",
        "0",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "0177.0.0.1",
        "[::1]",
        "[0:0:0:0:0:ffff:7f00:1]",
        "[::ffff:127.0.0.1]",
        "①②⑦.0.0.1",
    ],
)
async def test_no_way_to_write_loopback_gets_there(host: str) -> None:
    with serve_web(reply(b"secret")) as web, pytest.raises(UrlNotAllowed):
        await fetched(f"http://{host}:{web.port}/", FetchPolicy((HostPattern.parse(f"*:{web.port}"),)))
    assert web.requests == []


async def test_the_refusal_does_not_tell_what_a_name_resolves_to() -> None:
    names = Names(inner_test=[["10.0.0.1"]], free_test=[["127.0.0.1"]])
    details = set()
    for host, allowed in [("inner.test", "*"), ("unknown.test", "*"), ("free.test", "other.test")]:
        with pytest.raises(UrlNotAllowed) as refused:
            await fetched(f"http://{host}/", policy_for(allowed, resolve=names))
        details.add(refused.value.detail.replace(host, "HOST"))
    assert len(details) == 1


async def test_a_name_server_that_does_not_answer_is_left() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return await asyncio.Future()

    with pytest.raises(UrlNotAllowed):
        await fetched("http://videos.test/", policy_for("*", resolve=resolve, connect_seconds=0.1))


async def test_a_second_answer_of_the_resolver_does_not_matter() -> None:
    names = Names(videos_test=[["127.0.0.1"], ["127.0.0.2"]])
    with serve_web(reply(b"video")) as web:
        assert await fetched(url_of(web), policy_for(f"*:{web.port}", resolve=names)) == b"video"
    assert names.asked == ["videos.test"], "what was checked is what was connected to"


async def test_a_redirect_resolves_and_checks_its_host_anew() -> None:
    names = Names(videos_test=[["127.0.0.1"], ["127.0.0.2"]])
    with serve_web(reply(b"", "302 Found", "Location: /again")) as web:
        with pytest.raises(UrlNotAllowed):
            await fetched(url_of(web), policy_for(f"*:{web.port}", resolve=names))
        assert len(web.requests) == 1


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:{port}/", "http://[::1]:{port}/", "http://other.test:{port}/", "file:///etc/passwd"]
)
async def test_a_redirect_leads_nowhere_that_a_url_may_not(target: str) -> None:
    names = Names(videos_test=[["127.0.0.1"]], other_test=[["10.0.0.1"]], **{"127_0_0_2": [["127.0.0.2"]]})
    with serve_web(
        lambda _, to: to.sendall(reply(b"", "302 Found", f"Location: {target}".format(port=web.port)))
    ) as web:
        with pytest.raises(UrlNotAllowed):
            await fetched(url_of(web), policy_for(f"*:{web.port}", resolve=names))
        assert len(web.requests) == 1


async def test_a_redirect_to_a_host_that_is_not_named_is_refused_though_it_could_be_reached() -> None:
    with serve_web(reply(b"secret")) as other:
        with serve_web(reply(b"", "302 Found", f"Location: {url_of(other)}")) as web, pytest.raises(UrlNotAllowed):
            await fetched(url_of(web), policy_for(f"videos.test:{web.port}"))
        assert other.requests == []


async def test_redirects_are_followed_without_cookies() -> None:
    count = itertools.count(1)

    def answer(request: bytes, connection: socket.socket) -> None:
        turn = next(count)
        moved = reply(b"", "307 Temporary Redirect", f"Location: /{turn}", "Set-Cookie: taste=sweet")
        connection.sendall(moved if turn <= 5 else reply(b"video"))

    with serve_web(answer) as web:
        assert await fetched(url_of(web), policy_for(f"*:{web.port}")) == b"video"
    assert [request.split()[1] for request in web.requests] == [b"/clip.mp4", b"/1", b"/2", b"/3", b"/4", b"/5"]
    assert not any(b"taste" in request for request in web.requests)


async def test_a_redirect_loop_ends() -> None:
    with serve_web(reply(b"", "301 Moved", "Location: /clip.mp4")) as web:
        with pytest.raises(UrlUnreachable, match="more than 5 times"):
            await fetched(url_of(web), policy_for(f"*:{web.port}"))
        assert len(web.requests) == 6


async def test_the_next_address_is_tried_when_one_takes_no_connection() -> None:
    names = Names(videos_test=[["127.0.0.5", "127.0.0.1"]])
    with serve_web(reply(b"video")) as web:
        policy = policy_for(f"*:{web.port}", resolve=names, networks=(IPv4Network("127.0.0.0/8"),))
        assert await fetched(url_of(web), policy) == b"video"


async def test_a_server_that_is_not_there() -> None:
    with serve_web(b"") as web:
        pass
    with pytest.raises(UrlUnreachable, match="takes no connection"):
        await fetched(url_of(web), policy_for(f"*:{web.port}"))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (reply(b"", "404 Not Found"), "answered 404"),
        (reply(b"video", "206 Partial Content"), "answered 206"),
        (reply(b"", "302 Found"), "answered 302"),
        (reply(b"", "302 Found", "Location: http://[::1"), "broke"),
        (reply(b"video", length=100), "broke"),
        (b"", "broke"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "broke"),
        (reply(gzip.compress(bytes(10_000_000)), "200 OK", "Content-Encoding: gzip"), "as gzip"),
    ],
)
async def test_an_answer_that_is_no_video(answer: bytes, told: str) -> None:
    with serve_web(answer) as web, pytest.raises(UrlUnreachable, match=told):
        await fetched(url_of(web), policy_for(f"*:{web.port}"))


async def test_a_video_that_says_it_is_too_large_is_not_read() -> None:
    with serve_web(reply(b"", length=1001)) as web, pytest.raises(BodyTooLarge, match="has 1001 bytes"):
        await fetched(url_of(web), policy_for(f"*:{web.port}", max_bytes=1000))


async def test_a_video_without_a_length_is_stopped_at_the_limit() -> None:
    sent = 0

    def answer(request: bytes, connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent += connection.send(bytes(65536))

    with serve_web(answer) as web, pytest.raises(BodyTooLarge, match="over 1000000 bytes"):
        await fetched(url_of(web), policy_for(f"*:{web.port}", max_bytes=1_000_000))
    assert 1_000_000 <= sent < 50_000_000, "what the system buffers may come on top"


def drips(request: bytes, connection: socket.socket) -> None:
    connection.sendall(reply(b"", length=1_000_000))
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def drips_a_head(request: bytes, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n")
        time.sleep(0.02)


def says_nothing(request: bytes, connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("answer", [drips, drips_a_head, says_nothing])
async def test_a_server_that_never_ends_is_left(answer: Any) -> None:
    with serve_web(answer) as web, pytest.raises(UrlStalled):
        await fetched(url_of(web), policy_for(f"*:{web.port}", total_seconds=0.5))


async def test_a_server_that_stops_sending_is_left() -> None:
    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(reply(b"video", length=100))
        connection.recv(1)

    with serve_web(answer) as web, pytest.raises(UrlStalled):
        await fetched(url_of(web), policy_for(f"*:{web.port}", idle_seconds=0.2))


async def test_what_the_caller_does_between_blocks_is_never_interrupted() -> None:
    with serve_web(reply(b"video")) as web:
        async with aclosing(fetch(url_of(web), policy_for(f"*:{web.port}", total_seconds=0.5))) as blocks:
            assert await anext(blocks) == b"video"
            await asyncio.sleep(0.6)
            with pytest.raises(UrlStalled):
                await anext(blocks)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_the_certificate_must_be_that_of_the_name_and_not_of_the_address(authority: trustme.CA) -> None:
    seen = []
    context = tls_of(authority, "videos.test")
    context.sni_callback = lambda connection, name, _: seen.append(name)
    with serve_web(reply(b"video"), tls=context) as web:
        policy = policy_for(f"*:{web.port}", tls=trusting(authority))
        assert await fetched(f"https://videos.test:{web.port}/", policy) == b"video"
    assert seen == ["videos.test"]
    for name in ("other.test", "127.0.0.1"):
        with serve_web(reply(b"video"), tls=tls_of(authority, name)) as web:
            policy = policy_for(f"*:{web.port}", tls=trusting(authority))
            with pytest.raises(UrlUnreachable, match="certificate"):
                await fetched(f"https://videos.test:{web.port}/", policy)
            assert web.requests == []


async def test_a_redirect_does_not_lead_out_of_https(authority: trustme.CA) -> None:
    moved = reply(b"", "302 Found", "Location: http://videos.test/")
    with serve_web(moved, tls=tls_of(authority, "videos.test")) as web:
        policy = policy_for(f"*:{web.port}", "*", tls=trusting(authority))
        with pytest.raises(UrlNotAllowed, match="from https to http"):
            await fetched(f"https://videos.test:{web.port}/", policy)

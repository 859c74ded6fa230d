"""Hosts, URLs and addresses that may be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from service.errors import UrlNotAllowed
from service.fetching import FetchPolicy, HostPattern, may_be_reached
from tests.support.fetching import Names, fetched, policy_for
from tests.support.web import reply, serve_web


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
def test_a_pattern_matches_its_hosts_and_ports_only(pattern: str, host: str, port: int, matches: bool) -> None:
    assert HostPattern.parse(pattern).matches(host, port) is matches


@pytest.mark.parametrize("text", ["", "https://example.org", "example.org/", "*example.org", "a:0", "a:70000", "::1"])
def test_a_text_that_is_no_host_pattern_is_refused(text: str) -> None:
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
async def test_a_url_that_is_not_http_with_a_host_is_refused(url: str) -> None:
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
    *("192.0.0.192", "192.0.0.1", "192.88.99.1", "168.63.129.16", "192.31.196.1", "192.175.48.1"),
    *("3fff::1", "3fff:fff:ffff::1", "2001:20::1", "2001:4:112::1", "2620:4f:8000::1", "5f00::1", "100::1"),
    *("::ffff:192.0.0.192", "64:ff9b::c000:c0", "2002:c000:c0::1"),
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
async def test_loopback_is_refused_however_it_is_written(host: str) -> None:
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


async def test_a_name_server_that_does_not_answer_is_given_up() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return await asyncio.Future()

    with pytest.raises(UrlNotAllowed):
        await fetched("http://videos.test/", policy_for("*", resolve=resolve, connect_seconds=0.1))

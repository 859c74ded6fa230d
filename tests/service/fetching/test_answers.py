"""Answers of real servers, good and bad."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from contextlib import aclosing
from ipaddress import IPv4Network
from typing import Any

import pytest

from service.errors import BodyTooLarge, UrlStalled, UrlUnreachable
from service.fetching import fetch
from tests.support.fetching import Names, fetched, policy_for, url_of
from tests.support.web import reply, serve_web


async def test_a_video_is_fetched_from_a_host_that_the_operator_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with serve_web(reply(b"video" * 100_000)) as web:
        assert await fetched(url_of(web, "/a%20b?c=d#e"), policy_for(f"*.test:{web.port}")) == b"video" * 100_000
    head = web.requests[0].decode().lower()
    assert head.startswith("get /a%20b?c=d http/1.1\r\n")
    assert f"host: videos.test:{web.port}\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert "python" not in head, "nobody learns what the service is made of"


async def test_a_body_without_a_length_is_read_to_its_end() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvideo\r\n0\r\n\r\n"
    with serve_web(chunked) as web:
        assert await fetched(url_of(web), policy_for(f"videos.test:{web.port}")) == b"video"
    with serve_web(b"HTTP/1.0 200 OK\r\n\r\nvideo") as web:
        assert await fetched(url_of(web), policy_for(f"videos.test:{web.port}")) == b"video"


async def test_the_next_address_is_tried_when_one_takes_no_connection() -> None:
    names = Names(videos_test=[["127.0.0.5", "127.0.0.1"]])
    with serve_web(reply(b"video")) as web:
        policy = policy_for(f"*:{web.port}", resolve=names, networks=(IPv4Network("127.0.0.0/8"),))
        assert await fetched(url_of(web), policy) == b"video"


async def test_a_server_that_takes_no_connection_is_an_error() -> None:
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
async def test_an_answer_without_the_plain_video_is_an_error(answer: bytes, told: str) -> None:
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
async def test_a_server_that_never_ends_is_given_up(answer: Any) -> None:
    with serve_web(answer) as web, pytest.raises(UrlStalled):
        await fetched(url_of(web), policy_for(f"*:{web.port}", total_seconds=0.5))


async def test_a_server_that_stops_sending_is_given_up() -> None:
    def answer(request: bytes, connection: socket.socket) -> None:
        connection.sendall(reply(b"video", length=100))
        connection.recv(1)

    with serve_web(answer) as web, pytest.raises(UrlStalled):
        await fetched(url_of(web), policy_for(f"*:{web.port}", idle_seconds=0.2))


async def test_a_caller_is_not_interrupted_between_blocks() -> None:
    with serve_web(reply(b"video")) as web:
        async with aclosing(fetch(url_of(web), policy_for(f"*:{web.port}", total_seconds=0.5))) as blocks:
            assert await anext(blocks) == b"video"
            await asyncio.sleep(0.6)
            with pytest.raises(UrlStalled):
                await anext(blocks)

"""Redirects are checked like the first URL."""

from __future__ import annotations

import itertools
import socket

import pytest

from service.errors import UrlNotAllowed, UrlUnreachable
from tests.support.fetching import Names, fetched, policy_for, url_of
from tests.support.web import reply, serve_web


async def test_a_name_is_resolved_only_once() -> None:
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
async def test_a_redirect_to_a_forbidden_address_is_refused(target: str) -> None:
    names = Names(videos_test=[["127.0.0.1"]], other_test=[["10.0.0.1"]], **{"127_0_0_2": [["127.0.0.2"]]})
    with serve_web(
        lambda _, to: to.sendall(reply(b"", "302 Found", f"Location: {target}".format(port=web.port)))
    ) as web:
        with pytest.raises(UrlNotAllowed):
            await fetched(url_of(web), policy_for(f"*:{web.port}", resolve=names))
        assert len(web.requests) == 1


async def test_a_redirect_to_a_host_that_the_operator_does_not_name_is_refused() -> None:
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


async def test_a_redirect_loop_is_given_up() -> None:
    with serve_web(reply(b"", "301 Moved", "Location: /clip.mp4")) as web:
        with pytest.raises(UrlUnreachable, match="more than 5 times"):
            await fetched(url_of(web), policy_for(f"*:{web.port}"))
        assert len(web.requests) == 6

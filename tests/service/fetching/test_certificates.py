"""Certificates over a connection to a checked address."""

from __future__ import annotations

import ssl

import pytest
import trustme

from service.errors import UrlNotAllowed, UrlUnreachable
from tests.support.fetching import fetched, policy_for
from tests.support.web import reply, serve_web


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


async def test_the_certificate_must_be_that_of_the_name_not_of_the_address(authority: trustme.CA) -> None:
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


async def test_a_redirect_from_https_to_http_is_refused(authority: trustme.CA) -> None:
    moved = reply(b"", "302 Found", "Location: http://videos.test/")
    with serve_web(moved, tls=tls_of(authority, "videos.test")) as web:
        policy = policy_for(f"*:{web.port}", "*", tls=trusting(authority))
        with pytest.raises(UrlNotAllowed, match="from https to http"):
            await fetched(f"https://videos.test:{web.port}/", policy)

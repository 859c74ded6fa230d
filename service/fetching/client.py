"""Sends requests to addresses that were checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import httpx

from service.errors import BodyTooLarge
from service.fetching.errors import UrlNotAllowed, UrlStalled, UrlUnreachable
from service.fetching.policy import FetchPolicy, public_authorities

USER_AGENT = "video-scene-graph"
_MOST_REDIRECTS = 5


async def fetch(text: str, policy: FetchPolicy) -> AsyncGenerator[bytes, None]:
    """Yields the bytes behind a URL, in blocks as they arrive. Close the iterator if you do not exhaust it.

    Raises UrlNotAllowed, UrlUnreachable, UrlStalled or BodyTooLarge.
    """
    deadline = policy.deadline()
    url = policy.check(text)
    for _ in range(_MOST_REDIRECTS + 1):
        async with exchange("GET", url, policy, deadline) as answer:
            if not answer.has_redirect_location:
                _check_answer(url, answer, policy)
                received, stream = 0, answer.aiter_raw()
                while (block := await _next_block(stream, url, deadline)) is not None:
                    received += len(block)
                    if received > policy.max_bytes:
                        raise _too_large(f"over {policy.max_bytes}", policy)
                    yield block
                return
            url = _redirected(url, answer.headers["location"], policy)
    raise UrlUnreachable(
        f"the URL redirects more than {_MOST_REDIRECTS} times, last to {host_of(url)}: give the final URL"
    )


@asynccontextmanager
async def exchange(
    method: str,
    url: httpx.URL,
    policy: FetchPolicy,
    deadline: float,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> AsyncIterator[httpx.Response]:
    """Sends one request for a URL that `policy.check` returned, and gives the answer before its body is read.

    deadline: time by the event loop's clock until which the answer must have begun.

    Raises UrlNotAllowed, UrlUnreachable or UrlStalled.
    """
    patience = httpx.Timeout(policy.idle_seconds, connect=policy.connect_seconds)
    # Every request has a client of its own, so that nothing, such as a cookie, gets from one host to the next.
    async with httpx.AsyncClient(
        verify=policy.tls or public_authorities(), trust_env=False, timeout=patience
    ) as client:
        with _told_as_errors(url):
            async with asyncio.timeout_at(deadline):
                answer = await _send(client, method, url, await policy.addresses(url), headers or {}, content)
        try:
            yield answer
        finally:
            await answer.aclose()


async def _send(
    client: httpx.AsyncClient,
    method: str,
    url: httpx.URL,
    addresses: list[str],
    headers: Mapping[str, str],
    content: bytes | None,
) -> httpx.Response:
    """Sends a request to the first of the addresses that takes a connection."""
    # The address replaces the name only in the connection. The server and its certificate see the name.
    named = {**headers, "Host": host_of(url), "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    server_name = {"sni_hostname": url.raw_host.decode("ascii")}
    for address in addresses:
        pinned = url.copy_with(host=address)
        request = client.build_request(method, pinned, headers=named, content=content, extensions=server_name)
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
    raise UrlUnreachable(f"{host_of(url)} takes no connection, or its certificate is not trusted")


async def _next_block(stream: AsyncIterator[bytes], url: httpx.URL, deadline: float) -> bytes | None:
    """Returns the next block, None at the end.

    The time limit is not around the whole loop, where it would strike while the caller stores a block.
    """
    with _told_as_errors(url):
        async with asyncio.timeout_at(deadline):
            return await anext(stream, None)


def _check_answer(url: httpx.URL, answer: httpx.Response, policy: FetchPolicy) -> None:
    if answer.status_code != 200:
        raise UrlUnreachable(f"{host_of(url)} answered {answer.status_code}: the URL must answer 200 with the video")
    if (encoding := answer.headers.get("content-encoding", "identity").lower()) != "identity":
        raise UrlUnreachable(
            f"{host_of(url)} sent the video as {encoding[:40]}: the URL must answer with the plain video"
        )
    declared = answer.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > policy.max_bytes:
        raise _too_large(declared, policy)


def _too_large(size: str, policy: FetchPolicy) -> BodyTooLarge:
    return BodyTooLarge(f"the video at the URL has {size} bytes; this service takes at most {policy.max_bytes}")


def _redirected(url: httpx.URL, location: str, policy: FetchPolicy) -> httpx.URL:
    target = policy.check(location, base=url)
    if url.scheme == "https" and target.scheme == "http":
        raise UrlNotAllowed(f"{host_of(url)} redirects from https to http, which this service does not follow")
    return target


def host_of(url: httpx.URL) -> str:
    """Returns the host of a URL, with its port where the URL names one."""
    return url.netloc.decode("ascii")


@contextmanager
def _told_as_errors(url: httpx.URL) -> Iterator[None]:
    """Turns errors of the connection into errors for the caller."""
    try:
        yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise UrlStalled(f"{host_of(url)} took too long to send the video") from error
    except httpx.HTTPError as error:
        raise UrlUnreachable(f"the connection to {host_of(url)} broke") from error

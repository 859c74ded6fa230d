"""Requests to addresses that were checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import httpx

from service.fetching.errors import BodyTooLarge, UrlNotAllowed, UrlStalled, UrlUnreachable
from service.fetching.policy import FetchPolicy, public_authorities

USER_AGENT = "video-scene-graph"
_MOST_REDIRECTS = 5


async def fetch(text: str, policy: FetchPolicy) -> AsyncGenerator[bytes, None]:
    """The bytes behind a URL, in blocks as they arrive. Close the iterator when you do not exhaust it.

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
    raise UrlUnreachable(f"the URL redirects more than {_MOST_REDIRECTS} times, last to {host_of(url)}")


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
    """Sends one request for a URL that `policy.check` returned; the answer's body is not read yet.

    deadline  by the event loop's clock, until which the answer must have begun

    Raises UrlNotAllowed, UrlUnreachable or UrlStalled.
    """
    patience = httpx.Timeout(policy.idle_seconds, connect=policy.connect_seconds)
    # One client for one request, so that nothing, such as a cookie, gets from one host to the next.
    async with httpx.AsyncClient(
        verify=policy.tls or public_authorities(), trust_env=False, timeout=patience
    ) as client:
        with _problems(url):
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
    """Sends a request to the first of these addresses that takes a connection."""
    # The address takes the name's place only in what is connected to; the server and its certificate see the name.
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
    """None at the end. The time limit is not around the whole loop: it would strike while the caller stores a block."""
    with _problems(url):
        async with asyncio.timeout_at(deadline):
            return await anext(stream, None)


def _check_answer(url: httpx.URL, answer: httpx.Response, policy: FetchPolicy) -> None:
    if answer.status_code != 200:
        raise UrlUnreachable(f"{host_of(url)} answered {answer.status_code}; the URL must answer 200 with the video")
    if (encoding := answer.headers.get("content-encoding", "identity").lower()) != "identity":
        raise UrlUnreachable(f"{host_of(url)} sent the video as {encoding[:40]}, though asked to send it as it is")
    declared = answer.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > policy.max_bytes:
        raise _too_large(declared, policy)


def _too_large(size: str, policy: FetchPolicy) -> BodyTooLarge:
    return BodyTooLarge(f"the video at the URL has {size} bytes; this service takes at most {policy.max_bytes}")


def _redirected(url: httpx.URL, location: str, policy: FetchPolicy) -> httpx.URL:
    target = policy.check(location, base=url)
    if url.scheme == "https" and target.scheme == "http":
        raise UrlNotAllowed(f"{host_of(url)} redirects from https to http")
    return target


def host_of(url: httpx.URL) -> str:
    """The host of a URL, with its port where that is not the scheme's own."""
    return url.netloc.decode("ascii")


@contextmanager
def _problems(url: httpx.URL) -> Iterator[None]:
    """Turns what goes wrong on the way into what a caller is told."""
    try:
        yield
    except (TimeoutError, httpx.TimeoutException) as error:
        raise UrlStalled(f"{host_of(url)} took too long to send the video") from error
    except httpx.HTTPError as error:
        raise UrlUnreachable(f"the connection to {host_of(url)} broke") from error

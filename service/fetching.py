"""Fetches from other servers for callers, without letting callers reach what only this machine can.

An operator names the hosts. A name is resolved once, all its addresses must be public, and the connection goes to an
address that was checked, whatever the name means by then. Redirects are checked like the first URL.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

import httpx

from service.errors import BodyTooLarge, UrlNotAllowed, UrlStalled, UrlUnreachable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# Takes a host and a port, returns the host's IP addresses as text. Raises OSError or UnicodeError where it has none.
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

USER_AGENT = "video-scene-graph"
_MOST_REDIRECTS = 5
_PORTS = {"http": 80, "https": 443}
_PATTERN = re.compile(r"(\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
# All IPv6 addresses that were ever given out for the open Internet. Most special ones lie outside.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# What Python's `is_global` lets through, depending on its version: the rest of IANA's special-purpose registries, and
# the address at which Azure serves every machine's own configuration.
_SPECIAL = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.175.48.0/24",
            "168.63.129.16/32",
            "2001::/23",
            "2001:db8::/32",
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
# Threads of their own: a name server that does not answer must not hold up the threads that store uploads.
_RESOLVER_THREADS = ThreadPoolExecutor(8, "vsg-resolve")


@dataclass(frozen=True)
class HostPattern:
    """Hosts that may be reached.

    host: `example.org`, an IP address, or a pattern.
        `*.example.org` is every name below example.org, but not example.org itself; `*` is every host.
    port: the only port, None for 80 and 443.
    """

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `host` or `host:port`, with an IPv6 address in brackets. Raises ValueError where it is neither."""
        match = _PATTERN.fullmatch(text.strip().lower())
        port = int(match[2]) if match and match[2] else None
        if match is None or not (port is None or 1 <= port <= 65535):
            raise ValueError(f"{text!r} is not a host: give example.org, *.example.org, example.org:8443 or *")
        return cls(match[1].strip("[]"), port)

    def matches(self, host: str, port: int) -> bool:
        """Tells whether the pattern allows `host`, in lower case and without brackets, on that port."""
        if port != self.port and not (self.port is None and port in _PORTS.values()):
            return False
        return self.matches_name(host)

    def matches_name(self, host: str) -> bool:
        """Tells whether the pattern allows `host`, in lower case and without brackets, on some port."""
        if self.host.startswith("*"):
            return host.endswith(self.host[1:])
        return host == self.host


async def resolve_name(host: str, port: int) -> list[str]:
    """Returns the addresses of a host in the order to try them, as the system resolves it.

    Raises OSError or UnicodeError where the host has none.
    """
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_RESOLVER_THREADS, ask)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True)
class FetchPolicy:
    """Limits what is reached.

    hosts: hosts that may be reached; all others are refused.
    networks: networks that may be reached although they are not public.
    max_bytes: most bytes of a body.
    connect_seconds: most seconds to resolve a name, and to connect to one address.
    idle_seconds: seconds without a byte after which a connection is given up.
    total_seconds: most seconds from the URL to the last byte, redirects included.
    resolve: turns a name into addresses.
    tls: trusted certificates, None for those of public authorities or of SSL_CERT_FILE.
    """

    hosts: tuple[HostPattern, ...]
    networks: tuple[Network, ...] = ()
    max_bytes: int = 512 * 2**20
    connect_seconds: float = 10.0
    idle_seconds: float = 60.0
    total_seconds: float = 900.0
    resolve: Resolver = resolve_name
    tls: ssl.SSLContext | None = None

    def deadline(self) -> float:
        """Returns when a request that begins now must have ended, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self.total_seconds

    def check(self, text: str, *, base: httpx.URL | None = None) -> httpx.URL:
        """Reads a URL, which may be relative to `base`, and checks everything but the addresses of its host.

        Raises UrlNotAllowed.
        """
        try:
            url = httpx.URL(text) if base is None else base.join(text)
        except httpx.InvalidURL as error:
            raise UrlNotAllowed(f"{text[:80]!r} is not a URL: give one such as https://example.org/clip.mp4") from error
        host = url.raw_host.decode("ascii").rstrip(".")
        if url.scheme not in _PORTS or not host:
            raise UrlNotAllowed("a URL must begin with https:// or http:// and name a host")
        if url.userinfo:
            raise UrlNotAllowed("the URL holds a user name or a password, which this service does not send: remove it")
        url = url.copy_with(host=host)
        if not any(pattern.matches(host, port_of(url)) for pattern in self.hosts):
            raise _refusal(url)
        return url

    async def addresses(self, url: httpx.URL) -> list[str]:
        """Resolves the host of a checked URL once, and returns its addresses, which are all allowed.

        Raises UrlNotAllowed where there are none, or where one of them is not allowed.
        """
        try:
            async with asyncio.timeout(self.connect_seconds):
                found = list(await self.resolve(url.raw_host.decode("ascii"), port_of(url)))
        except (OSError, UnicodeError) as error:
            raise _refusal(url) from error
        # One private address among public ones is refused too: no host that is meant to be public has it.
        if not found or not all(may_be_reached(address, self.networks) for address in found):
            raise _refusal(url)
        return found


def may_be_reached(text: str, networks: Sequence[Network]) -> bool:
    """Tells whether an IP address is public or in one of `networks`. IPv4 within IPv6 is judged as IPv4."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        address = _embedded(address) or address
    return _is_public(address) or any(address in network for network in networks)


def port_of(url: httpx.URL) -> int:
    """Returns the port of a URL, which is that of its scheme where the URL names none."""
    return url.port or _PORTS[url.scheme]


@cache
def public_authorities() -> ssl.SSLContext:
    """Trusts the authorities that browsers trust, or those named by SSL_CERT_FILE or SSL_CERT_DIR."""
    return httpx.create_ssl_context()


def _refusal(url: httpx.URL) -> UrlNotAllowed:
    """Says the same for every reason, so that nobody learns from it what the inner network has."""
    host = host_of(url)[:80]
    return UrlNotAllowed(
        f"this service does not connect to {host}: its operator has not named it, or it has no public address"
    )


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Returns the IPv4 address that gets the packets for a mapped, 6to4 or NAT64 address."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_public(address: Address) -> bool:
    # `is_global` is true of multicast too, which can have a global scope.
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    if any(address in network for network in _SPECIAL):
        return False
    return isinstance(address, IPv4Address) or address in _GLOBAL_UNICAST


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

"""What may be reached, and how long and how much it may take."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import httpx

from service.fetching.addresses import Network, Resolver, may_be_reached, resolve_name
from service.fetching.errors import UrlNotAllowed
from service.fetching.hosts import HostPattern

if TYPE_CHECKING:
    from service.settings import Settings

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class FetchPolicy:
    """What may be reached, and how long and how much it may take.

    hosts            that may be reached; all others are refused
    networks         that may be reached although they are not public
    max_bytes        of a body
    connect_seconds  until a name is resolved, and until a connection to one address stands
    idle_seconds     without a byte until a connection is given up
    total_seconds    from the URL to the last byte, redirects included
    tls              None: certificates of public authorities, or those named by SSL_CERT_FILE
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
        """When what begins now must have ended, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self.total_seconds

    def check(self, text: str, *, base: httpx.URL | None = None) -> httpx.URL:
        """Reads a URL, which may be relative to `base`, and checks what can be told without asking anybody.

        Raises UrlNotAllowed.
        """
        try:
            url = httpx.URL(text) if base is None else base.join(text)
        except httpx.InvalidURL as error:
            raise UrlNotAllowed(f"{text[:80]!r} is not a URL") from error
        host = url.raw_host.decode("ascii").rstrip(".")
        if url.scheme not in _PORTS or not host:
            raise UrlNotAllowed("a URL must begin with https:// or http:// and name a host")
        if url.userinfo:
            raise UrlNotAllowed("the URL holds a user name or a password; this service sends none")
        url = url.copy_with(host=host)
        if not any(pattern.matches(host, port_of(url)) for pattern in self.hosts):
            raise refusal(url)
        return url

    async def addresses(self, url: httpx.URL) -> list[str]:
        """The addresses of a checked URL's host, resolved now, once, and all checked. Raises UrlNotAllowed."""
        try:
            async with asyncio.timeout(self.connect_seconds):
                found = list(await self.resolve(url.raw_host.decode("ascii"), port_of(url)))
        except (OSError, UnicodeError) as error:
            raise refusal(url) from error
        # One bad address among good ones is refused as well: nothing that is meant to be public has it.
        if not found or not all(may_be_reached(address, self.networks) for address in found):
            raise refusal(url)
        return found


def url_policy(settings: Settings) -> FetchPolicy:
    """What the operator allows URLs of videos."""
    return FetchPolicy(
        settings.url_hosts,
        settings.url_networks,
        max_bytes=settings.max_body_bytes,
        idle_seconds=settings.upload_idle_seconds,
        total_seconds=settings.url_seconds,
    )


def refusal(url: httpx.URL) -> UrlNotAllowed:
    """The same words for every reason, so that nobody learns from them what the inner network has."""
    host = url.netloc.decode("ascii")[:80]
    return UrlNotAllowed(
        f"this service does not connect to {host}: its operator has not named it, or it has no public address"
    )


def port_of(url: httpx.URL) -> int:
    """The port of a URL, also where it is the scheme's own."""
    return url.port or _PORTS[url.scheme]


@cache
def public_authorities() -> ssl.SSLContext:
    """Trusts the authorities that browsers trust, or those named by SSL_CERT_FILE or SSL_CERT_DIR."""
    return httpx.create_ssl_context()

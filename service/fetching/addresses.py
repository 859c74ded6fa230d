"""What a host name means, and which addresses are public."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Takes a host and a port, returns the host's IP addresses as text; raises OSError or UnicodeError when it has none."""

# All that was ever given out for use in the open Internet; what is special lies mostly outside.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# Threads of its own: a name server that does not answer must not hold those that store uploads.
_THREADS = ThreadPoolExecutor(8, "vsg-resolve")


async def resolve_name(host: str, port: int) -> list[str]:
    """The addresses of a host as the system resolves it, in the order to try them. Raises OSError or UnicodeError."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_THREADS, ask)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def may_be_reached(text: str, networks: Sequence[Network]) -> bool:
    """Whether an IP address is public or in one of `networks`; an IPv4 address within IPv6 is judged as IPv4."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        address = _embedded(address) or address
    return _is_public(address) or any(address in network for network in networks)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address to which packets for a mapped, 6to4 or NAT64 address end up going."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_public(address: Address) -> bool:
    # `is_global` is true of multicast, which has a global scope as well.
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return isinstance(address, IPv4Address) or address in _GLOBAL_UNICAST

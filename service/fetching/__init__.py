"""Fetches from other servers for callers, without letting callers reach what only this machine can.

An operator names the hosts. A name is resolved once, all its addresses must be public, and the connection goes to an
address that was checked, whatever the name means by then. Redirects are checked like the first URL.
"""

from service.fetching.client import exchange, fetch
from service.fetching.policy import FetchPolicy, HostPattern, Network, Resolver, resolve_name

__all__ = ["FetchPolicy", "HostPattern", "Network", "Resolver", "exchange", "fetch", "resolve_name"]

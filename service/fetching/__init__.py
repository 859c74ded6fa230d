"""Reaches other servers for callers, without letting them reach what only this machine can.

An operator names the hosts. A name is resolved once, every address of it must be public, and the connection goes to an
address that was checked, whatever the name means by then. Redirects are checked as the first URL is.
"""

from service.fetching.addresses import Network, Resolver, resolve_name
from service.fetching.client import exchange, fetch
from service.fetching.hosts import HostPattern
from service.fetching.policy import FetchPolicy, url_policy

__all__ = ["FetchPolicy", "HostPattern", "Network", "Resolver", "exchange", "fetch", "resolve_name", "url_policy"]

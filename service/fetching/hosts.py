"""The hosts that an operator names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_PATTERN = re.compile(r"(\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = (80, 443)


@dataclass(frozen=True)
class HostPattern:
    """Hosts that may be reached, on the ports 80 and 443 or on the one that is named.

    host  `example.org`; `*.example.org`: every name below it, but not itself; `*`: every host; or an IP address
    """

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `host` or `host:port`, an IPv6 address in brackets. Raises ValueError."""
        match = _PATTERN.fullmatch(text.strip().lower())
        port = int(match[2]) if match and match[2] else None
        if match is None or not (port is None or 1 <= port <= 65535):
            raise ValueError(f"{text!r} is not a host; write example.org, *.example.org, example.org:8443 or *")
        return cls(match[1].strip("[]"), port)

    def matches(self, host: str, port: int) -> bool:
        """Whether `host`, in lower case and without brackets, is one of these on that port."""
        if port != self.port and not (self.port is None and port in _DEFAULT_PORTS):
            return False
        if self.host.startswith("*"):
            return host.endswith(self.host[1:])
        return host == self.host

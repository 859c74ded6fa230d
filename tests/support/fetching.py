"""Fetches from the servers of a test, whose names mean loopback."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import aclosing
from ipaddress import IPv4Network, ip_address
from typing import Any

from service.fetching import FetchPolicy, HostPattern, fetch
from tests.support.web import Web

HERE = (IPv4Network("127.0.0.1/32"),)


class Names:
    """Resolves each name to its answers in turn, the last one for ever, and an address to itself.

    asked: the names so far.
    """

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self._answers:
            try:
                return [str(ip_address(host))]
            except ValueError:
                raise socket.gaierror("no such name") from None
        answers = self._answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def policy_for(*hosts: str, **changes: Any) -> FetchPolicy:
    """Allows these hosts. The name `videos.test` means loopback."""
    names = Names(videos_test=[["127.0.0.1"]])
    return FetchPolicy(tuple(map(HostPattern.parse, hosts)), **{"networks": HERE, "resolve": names, **changes})


async def fetched(url: str, policy: FetchPolicy) -> bytes:
    """Fetches a whole body."""
    async with aclosing(fetch(url, policy)) as blocks:
        return b"".join([block async for block in blocks])


def url_of(web: Web, path: str = "/clip.mp4") -> str:
    """Returns the URL of a file of the server, by name."""
    return f"http://videos.test:{web.port}{path}"

"""Errors of agents' tools."""

# ruff: noqa: N818 - as in service/errors.py

from __future__ import annotations

from service.errors import RequestError


class NoSuchVideo(RequestError):
    """The archive has no such video of this owner."""

    status = 404
    code = "no_such_video"
    title = "There is no such video"

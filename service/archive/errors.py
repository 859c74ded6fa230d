"""Errors of archives."""

# ruff: noqa: N818 - as in service/errors.py

from __future__ import annotations

from service.errors import SetupError


class ArchiveError(SetupError):
    """An archive cannot be used; the message names it and the remedy."""


class ArchiveFull(ArchiveError):
    """The archive's disk has no room left."""

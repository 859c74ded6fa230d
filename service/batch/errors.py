"""Errors of batches."""

# ruff: noqa: N818 - as in service/errors.py

from __future__ import annotations

from service.errors import SetupError


class SourceUnusable(SetupError):
    """The source of a batch cannot be listed, or has no video."""


class BatchStopped(SetupError):
    """A batch cannot go on: a worker cannot write the archive, or cannot start."""

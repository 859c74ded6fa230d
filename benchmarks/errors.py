"""Errors of measuring."""

from __future__ import annotations

from service.errors import SetupError


class BenchError(SetupError):
    """A measurement cannot be made."""

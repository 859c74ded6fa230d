"""Errors of drawing."""

from __future__ import annotations

from service.errors import SetupError


class RenderError(SetupError):
    """A graph cannot be drawn on a video: it is no graph, or one of another video."""

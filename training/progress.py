"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, *, total: int | None = None, disable: bool = False
) -> Iterable[Item]:
    """Iterates with a progress bar; silent where standard error is not a terminal."""
    console = Console(stderr=True)
    return rich_track(items, description, total=total, console=console, disable=disable or not console.is_terminal)

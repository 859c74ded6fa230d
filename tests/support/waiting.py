"""Waits for other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Waits until a condition holds; fails the test after a long time, because cores may be shared."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not true within {seconds} s"
        time.sleep(0.02)


def decoders() -> list[psutil.Process]:
    """The decoder processes of this process, without the permanent process that starts them."""
    return [process for spawner in psutil.Process().children() for process in spawner.children()]

"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Waits until a condition holds; fails the test when it does not in time, which is long: cores may be shared."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not true within {seconds} s"
        time.sleep(0.02)

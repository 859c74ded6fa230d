"""Background tasks of a process."""

from __future__ import annotations

import asyncio
from typing import Any


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancels a task and waits until it has ended, however it does."""
    task.cancel()
    await asyncio.wait([task])

"""What is done for a client for as long as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")


class ClientLeftError(Exception):
    """The client has closed the connection before there was an answer."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves. The request's body must have been read.

    Raises ClientLeftError, and what `work` raises.
    """
    running = asyncio.ensure_future(work)
    # All that can still arrive is the message that the client has gone.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise ClientLeftError
        return running.result()
    finally:
        for task in (running, gone):
            task.cancel()
        await asyncio.wait({running, gone})

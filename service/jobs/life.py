"""The life of a process of the service: what it goes through, and what its parent learns when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Collection
from typing import Any, Self


class ProcessLife:
    """Whether this process works, is stopping, or has lost its engine. All parts of the process ask this one object.

    Enter it as an async context manager in the event loop whose tasks wait for its events.

    stopping: set when the process stops. From then on nobody waits for work that goes on without this process.
    engine_lost: set when an engine has died. Only a new process can make graphs again.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.engine_lost = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_lost_engine = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if self._has_lost_engine:  # before there was a loop
            self.engine_lost.set()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._loop = None

    def stop(self) -> None:
        """Begins the end of the process; call it in the event loop."""
        self.stopping.set()

    def lose_engine(self) -> None:
        """Notes that an engine has died; call it from any thread."""
        self._has_lost_engine = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.engine_lost.set)

    async def until_over(self) -> None:
        """Waits until the process is to stop or has lost its engine."""
        ends = [asyncio.create_task(event.wait()) for event in (self.stopping, self.engine_lost)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()


class Duties:
    """Tells the parent process which jobs this process works on."""

    def __init__(self, pipe: int) -> None:
        """`pipe` is the descriptor to write to."""
        self._pipe = pipe

    def begin(self, video_id: str) -> None:
        """Reports that work on a job begins."""
        os.write(self._pipe, f"+{video_id}\n".encode())

    def end(self, video_id: str) -> None:
        """Reports that a job has ended or was handed back. It is no longer blamed if the process dies."""
        os.write(self._pipe, f"-{video_id}\n".encode())


def supervise(work: Callable[[Duties], bool], blame: Callable[[Collection[str]], None]) -> int:
    """Runs `work` in a child process and waits for its end. SIGTERM and SIGINT are passed on to the child.

    work: returns True when all is well. The child exits with 0 then, and with 1 otherwise.
    blame: is called with the ids of the jobs that were under way when the child ended, because one of them ended it.
        If this process is killed, the child ends as well and nobody is blamed.

    Returns the exit status of the child, or 128 + N if signal N ended it. It returns in the parent only.
    """
    told, tell = os.pipe()
    parent_lives, we_live = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of threads. Here only the numerical libraries have some, and those are made for a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(told)
        os.close(we_live)
        threading.Thread(target=_end_with_parent, args=(parent_lives,), name="vsg-parent", daemon=True).start()
        sys.exit(0 if work(Duties(tell)) else 1)
    os.close(tell)
    os.close(parent_lives)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
    under_way: set[str] = set()
    with open(told) as lines:  # ends with the child
        for line in lines:
            (under_way.add if line[0] == "+" else under_way.discard)(line[1:].strip())
    _, status = os.waitpid(child, 0)
    os.close(we_live)
    if under_way:
        blame(under_way)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: this returns when the parent is gone
    os._exit(1)


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancels background tasks and waits until all have ended, with or without an error."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

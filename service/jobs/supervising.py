"""A worker and its parent, which knows what the worker was doing when it died, and that nobody else has ended it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Collection


class Duties:
    """Tells the parent which jobs are under way."""

    def __init__(self, pipe: int) -> None:
        """pipe: descriptor of the end to write to"""
        self._pipe = pipe

    def begin(self, video_id: str) -> None:
        """A job is begun."""
        os.write(self._pipe, f"+{video_id}\n".encode())

    def end(self, video_id: str) -> None:
        """A job has come to an end, or was handed back; the worker's death is no longer its fault."""
        os.write(self._pipe, f"-{video_id}\n".encode())


def supervise(work: Callable[[Duties], bool], blame: Callable[[Collection[str]], None]) -> int:
    """Runs `work` in a child process and waits for its end; returns the exit status, 128 + N where signal N ended it.

    A child that ends, in whatever way, while jobs are under way has been ended by one of them: `blame` is called with
    their ids. Where this process is killed nobody is blamed, and the child ends as well. SIGTERM and SIGINT are passed
    on. In the child this does not return: it exits with 0 when `work` says that all is well, else with 1.
    """
    told, tell = os.pipe()
    parent_lives, we_live = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of threads. Those of here are the numerical libraries' own, which are made for this.
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
    with open(told) as lines:  # until the child has ended
        for line in lines:
            (under_way.add if line[0] == "+" else under_way.discard)(line[1:].strip())
    _, status = os.waitpid(child, 0)
    os.close(we_live)
    if under_way:
        blame(under_way)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: this returns when the other end is closed
    os._exit(1)

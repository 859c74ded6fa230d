"""Reads from /proc what processes use; Linux only."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class PeakMemory:
    """Watches a process and its children while the context lasts.

    `resource.getrusage` counts the size of the parent at the start of a child as the child's, so it does not help.
    """

    INTERVAL = 0.02  # seconds; a decoder lives longer

    def __init__(self, process: int | None = None) -> None:
        """`process`: its number; None for this process."""
        self._process = "self" if process is None else str(process)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vsg-memory", daemon=True)
        self._children = 0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def mebibytes(self) -> float:
        """The peak of the process since it began, plus the largest sum of the peaks of its children."""
        return (_high_water_kib(self._process) + self._children) / 1024

    def _watch(self) -> None:
        while not self._over.wait(self.INTERVAL):
            self._children = max(self._children, sum(_high_water_kib(child) for child in _descendants(self._process)))


def cpu_seconds(process: int | None = None, *, with_children: bool = False) -> float:
    """Returns the processor time of a process since it began; with children, that of all descendants, ended or not."""
    number = "self" if process is None else str(process)
    user, system, *ended = _ticks(number)
    if not with_children:
        return (user + system) / _TICKS_PER_SECOND
    return (user + system + sum(ended) + sum(sum(_ticks(child)) for child in _descendants(number))) / _TICKS_PER_SECOND


def _descendants(process: str) -> list[str]:
    found: list[str] = []
    for listing in Path("/proc", process, "task").glob("*/children"):
        for child in _read(listing).split():
            found += [child, *_descendants(child)]
    return found


def _high_water_kib(process: str) -> int:
    for line in _read(Path("/proc", process, "status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def _ticks(process: str) -> tuple[int, int, int, int]:
    """Returns user and system time of a process, then both of its children that have ended."""
    # The process's name comes before, in brackets, and may itself hold brackets.
    fields = _read(Path("/proc", process, "stat")).rpartition(")")[2].split()
    if not fields:
        return 0, 0, 0, 0
    user, system, ended_user, ended_system = map(int, fields[11:15])
    return user, system, ended_user, ended_system


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended since it was listed
        return ""

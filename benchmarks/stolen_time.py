"""Whether a measurement was disturbed by what the machine's host did meanwhile."""

from __future__ import annotations

from pathlib import Path

LITTLE_STOLEN = 0.02
"""Up to this share figures agree from run to run. Beyond it threads that wait for each other, such as those of eager
PyTorch, get slower by much more than the share."""

_STEAL = 7
_STATES = 8
"""The columns of /proc/stat before those for guests, which the first two contain already."""


class StolenTime:
    """While the context lasts: the share of the processors' time that the host of a virtual machine gave to others."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        """stat: where the kernel counts; what has no such file counts nothing"""
        self.share = 0.0
        self._stat = stat

    def __enter__(self) -> StolenTime:
        self._before = self._read()
        return self

    def __exit__(self, *exception: object) -> None:
        passed = [after - before for before, after in zip(self._before, self._read(), strict=True)]
        self.share = passed[_STEAL] / max(1, sum(passed))

    def _read(self) -> list[int]:
        """Ticks of all processors by state."""
        try:
            with self._stat.open() as file:
                return [int(ticks) for ticks in file.readline().split()[1 : 1 + _STATES]]
        except FileNotFoundError:
            return [0] * _STATES


def say_stolen(share: float) -> str:
    """A sentence for whoever reads figures that cannot be trusted; empty where they can."""
    if share <= LITTLE_STOLEN:
        return ""
    return f"disturbed: {share:.0%} of the processors' time went to other machines of the host; measure again"

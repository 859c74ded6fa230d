"""Tells whether the host of a virtual machine disturbed a measurement."""

from __future__ import annotations

from pathlib import Path

LITTLE_STOLEN = 0.02
"""Up to this share figures agree from run to run. Above it, threads that wait for each other, such as those of eager
PyTorch, slow down by much more than the share."""

_STEAL = 7
_STATES = 8
"""Columns of /proc/stat without those for guests, which the first two already contain."""


class StolenTime:
    """Measures, while the context lasts, the share of the processors' time that the host gave to other machines."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        """`stat`: the file in which the kernel counts; where it is missing, the share is 0."""
        self.share = 0.0
        self._stat = stat

    def __enter__(self) -> StolenTime:
        self._before = self._read()
        return self

    def __exit__(self, *exception: object) -> None:
        passed = [after - before for before, after in zip(self._before, self._read(), strict=True)]
        self.share = passed[_STEAL] / max(1, sum(passed))

    def _read(self) -> list[int]:
        """Returns the ticks of all processors by state."""
        try:
            with self._stat.open() as file:
                return [int(ticks) for ticks in file.readline().split()[1 : 1 + _STATES]]
        except FileNotFoundError:
            return [0] * _STATES


def say_stolen(share: float) -> str:
    """Returns a warning where figures cannot be trusted, an empty text where they can."""
    if share <= LITTLE_STOLEN:
        return ""
    return f"disturbed: {share:.0%} of the processors' time went to other machines of the host; measure again"

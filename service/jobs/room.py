"""The room for one more video of a caller: places in the queue, and videos that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from service.jobs.errors import QueueFull, TooManyVideos
from service.settings import Settings


@dataclass(frozen=True)
class Room:
    """The operator's limits. The scripts of `scripts` look whether there is room, and reply with a word and numbers.

    queue: most jobs that wait or run.
    share: of the places that others leave in the queue, the part which the jobs of one caller may take.
    kept: most videos of one caller that wait, run or are kept.
    """

    queue: int
    share: float
    kept: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Reads the limits. Without keys all callers are one, and there is nobody to leave places for."""
        return cls(settings.queue_limit, 1.0 if settings.keys is None else settings.queue_share, settings.kept_limit)

    def check(self, reply: Sequence[Any]) -> None:
        """Raises QueueFull or TooManyVideos where a script has replied that there is no room."""
        word = reply[0].decode()
        if word == "full":
            raise QueueFull(f"{reply[1]} videos wait or run, and the limit here is {self.queue}: try again later")
        if word == "share":
            raise QueueFull(
                f"{reply[1]} of your videos wait or run, and the rest of the {self.queue} places is for others: "
                "try again when some of yours are done"
            )
        if word == "kept":
            raise TooManyVideos(
                f"{reply[1]} of your videos wait, run or are kept, and the limit here is {self.kept}: "
                "delete those that you have read, or try again later"
            )

"""A job while a worker has it, and the ways in which a worker loses it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from docket import Execution

from service.errors import JobCancelled
from service.jobs.progress import ProgressReporter
from service.jobs.records import JobRecord, TakenJob

_LOOK_SECONDS = 0.2

T = TypeVar("T")


class PutBackError(Exception):
    """The job goes back into the queue: this worker cannot do it now, and no result may be stored."""


class TakenOverError(Exception):
    """Another worker has the job now, because this one was silent for too long. This one does nothing more."""


@dataclass(eq=False)
class RunningJob:
    """A job that has come from the queue; its thread gets it as its context.

    taken: the job as the queue's records have it.
    task: the one that docket runs the job in.
    progress: takes the reports of the job's thread.
    is_begun: whether this attempt is counted.
    cancelled: stops the job's thread.
    has_lost_engine: whether the engine died while the thread used it.
    """

    taken: TakenJob
    execution: Execution
    task: asyncio.Task[Any]
    progress: ProgressReporter
    is_begun: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    has_lost_engine: bool = False

    @property
    def id(self) -> str:
        """The id of its video."""
        return self.taken.id

    @property
    def record(self) -> JobRecord:
        """Its request, once it is known that this version can read it."""
        assert self.taken.record is not None
        return self.taken.record

    @property
    def model(self) -> str | None:
        """The name of the model that it needs; None where every worker may choose."""
        return self.record.model or self.record.options.model


def result_of(asking: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, job: RunningJob) -> T:
    """Waits in the job's thread for what the event loop does. Raises JobCancelled once the job is cancelled."""
    asked = asyncio.run_coroutine_threadsafe(asking, loop)
    while True:
        try:
            return asked.result(timeout=_LOOK_SECONDS)
        except TimeoutError:
            if job.cancelled.is_set():
                asked.cancel()
                raise JobCancelled("the job was cancelled") from None


async def until_cancelled() -> NoReturn:
    """Waits until the task is cancelled."""
    while True:
        await asyncio.sleep(3600)


async def until_done(running: asyncio.Future[Any]) -> None:
    """Waits for a thread, even if both a caller that deletes the job and the worker that stops cancel the waiting."""
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([running])
    running.exception()  # asyncio would complain if nobody asked for it

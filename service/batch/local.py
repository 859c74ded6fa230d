"""Runs a batch in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from service.archive.folder import ArchiveFolder
from service.batch.errors import BatchStopped
from service.batch.listing import ListedVideo
from service.batch.making import MOST_ATTEMPTS, Maker, Outcome, Setup, give_up
from service.errors import EngineDied

_MOST_STARTS_IN_VAIN = 30  # of each process, in a row: a model that ends every process must not be opened for ever
_PATIENCE = 5.0  # seconds for a process to end
_FRESH = multiprocessing.get_context("spawn")  # a process with threads must not be forked


def run_locally(setup: Setup, videos: Iterable[ListedVideo], *, processes: int) -> Generator[Outcome, None, None]:
    """Yields the outcome of each video, in the order in which they end.

    A process that ends, for whatever reason, is replaced, and its video goes to the end of the queue. Processes end
    with this one.

    Raises BatchStopped where processes do not start; ArchiveFull and what the archive's store raises.
    """
    waiting = deque(videos)
    attempts: Counter[ListedVideo] = Counter()
    in_vain = 0
    workers = [_Worker(setup) for _ in range(min(processes, len(waiting)))]
    try:
        while waiting or any(worker.video for worker in workers):
            for worker in workers:
                if worker.is_ready and worker.video is None and waiting:
                    worker.give(waiting.popleft())
            for worker in _heard(workers):
                message = worker.hear()
                if isinstance(message, Outcome):
                    in_vain = 0
                    yield message
                elif message is _ENDED:
                    lost = worker.video
                    worker.end()
                    if lost is None and not worker.is_ready:
                        in_vain += 1
                        if in_vain >= _MOST_STARTS_IN_VAIN * len(workers):
                            raise BatchStopped("the processes of this batch end before they begin: see the log above")
                    workers[workers.index(worker)] = _Worker(setup)
                    if lost is None:
                        continue
                    attempts[lost] += 1
                    if attempts[lost] < MOST_ATTEMPTS:
                        waiting.append(lost)
                    else:
                        yield give_up(setup, ArchiveFolder(setup.archive), lost)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.end()


@dataclass(frozen=True)
class _Ready:
    """A process has its model."""


@dataclass(frozen=True)
class _Ended:
    """A process has ended."""


_ENDED = _Ended()


class _Worker:
    """A process that does one video after the other.

    video: the one it has.
    is_ready: whether it has its model.
    """

    def __init__(self, setup: Setup) -> None:
        self.video: ListedVideo | None = None
        self.is_ready = False
        self._connection, theirs = _FRESH.Pipe()
        self._process: SpawnProcess = _FRESH.Process(target=_work, args=(setup, theirs), daemon=False)
        self._process.start()
        theirs.close()

    def give(self, video: ListedVideo) -> None:
        """Gives it a video."""
        self.video = video
        with suppress(OSError):  # it has ended, as `hear` will tell
            self._connection.send(video)

    @property
    def signs(self) -> tuple[Connection, int]:
        """Objects for `wait`: the process says something, or ends. Its decoders may keep its connection open."""
        return self._connection, self._process.sentinel

    def hear(self) -> Outcome | _Ready | _Ended | None:
        """The news of a process that has given a sign."""
        try:
            if self._connection.poll():
                message: Outcome | _Ready = self._connection.recv()
                if isinstance(message, Outcome):
                    self.video = None
                else:
                    self.is_ready = True
                return message
        except (EOFError, OSError):
            return _ENDED
        return None if self._process.is_alive() else _ENDED

    def terminate(self) -> None:
        """Tells the process to end."""
        self._process.terminate()

    def end(self) -> None:
        """Ends the process, and waits for its end."""
        self.terminate()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()


def _heard(workers: list[_Worker]) -> list[_Worker]:
    """Waits until processes give a sign, and returns them."""
    signs = {sign: worker for worker in workers for sign in worker.signs}
    return list(dict.fromkeys(signs[sign] for sign in wait(list(signs))))  # type: ignore[index]


def _work(setup: Setup, connection: Connection) -> None:
    """Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began the batch ends this one
    threading.Thread(target=_end_with_parent, name="vsg-parent", daemon=True).start()
    try:
        maker = Maker(setup)
    except Exception as error:
        connection.send(Outcome("", stops=str(error)))
        return
    connection.send(_Ready())
    while True:
        try:
            video = connection.recv()
        except EOFError:
            return
        try:
            outcome = maker.make(video)
        except EngineDied:
            os._exit(1)
        connection.send(outcome)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

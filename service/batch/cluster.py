"""Runs a batch with Ray Data, on this machine or on a cluster.

Rows are paths, never bytes; one actor holds one model. Blocks have two rows, so that an actor that is killed takes few
finished videos out of sight. Ray's own checkpoints are not used: the archive knows what is done.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import Any

from service.batch.errors import BatchStopped
from service.batch.listing import ListedVideo
from service.batch.making import MOST_ATTEMPTS, Maker, Outcome, Setup
from service.errors import EngineDied
from service.loading import runs_on_gpu

_ROWS_OF_A_BLOCK = 2
_VIDEOS_AT_ONCE = 4000  # of one data set: its blocks lie in the memory of this process
_STORE_BYTES = 128 << 20  # of Ray's object store on this machine, which holds nothing but paths


def run_on_ray(
    setup: Setup, videos: Sequence[ListedVideo], *, processes: int | None, address: str | None
) -> Generator[Outcome, None, None]:
    """Yields the outcome of each video, in the order in which their blocks end.

    processes: actors, each of which takes a GPU or a core; None for as many as there are.
    address: of a cluster; None for that of the variable RAY_ADDRESS and, where it is not set, for this machine alone.

    Raises BatchStopped where Ray is not installed, or its cluster does not answer.
    """
    ray = _started(address)
    try:
        uses_gpu = runs_on_gpu(setup.settings.engine)
        counts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Attempts).remote()
        size = processes or int(ray.cluster_resources().get("GPU" if uses_gpu else "CPU", 1))
        for first in range(0, len(videos), _VIDEOS_AT_ONCE):
            rows = [asdict(video) for video in videos[first : first + _VIDEOS_AT_ONCE]]
            data = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // _ROWS_OF_A_BLOCK))
            outcomes = data.map(
                _Actor,
                fn_constructor_args=(setup, counts),
                compute=ray.data.ActorPoolStrategy(size=min(size, len(rows))),
                num_gpus=1 if uses_gpu else None,
                num_cpus=None if uses_gpu else 1,
            )  # Ray starts an actor that was killed again, and repeats its task, without end: we count the attempts
            for row in outcomes.iter_rows():
                yield Outcome(**row)
    finally:
        ray.shutdown()


class _Attempts:
    """Counts how often actors have begun a video without ending it."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, path: str) -> int:
        """Counts an attempt, and returns how many there were before."""
        self._begun[path] += 1
        return self._begun[path] - 1

    def end(self, path: str) -> None:
        """Forgets a video that has ended."""
        del self._begun[path]


class _Actor:
    """A process of Ray that holds a model. An error at its start becomes the outcome of its videos."""

    def __init__(self, setup: Setup, counts: Any) -> None:
        self._setup = setup
        self._counts = counts
        self._maker: Maker | None = None
        self._error = ""
        try:
            self._maker = Maker(setup)
        except Exception as error:
            self._error = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Makes the graph of a row's video; a row of the outcome."""
        video = ListedVideo(**row)
        return asdict(self._outcome(video))

    def _outcome(self, video: ListedVideo) -> Outcome:
        import ray

        if self._maker is None:
            return Outcome(video.path, stops=self._error)
        attempts = ray.get(self._counts.begin.remote(video.path))
        if attempts and (found := self._maker.found(video)) is not None:
            return found  # done before, by an actor that was killed before its block ended
        if attempts >= MOST_ATTEMPTS:
            return self._maker.give_up(video)
        try:
            return self._maker.make(video)
        except EngineDied:
            os._exit(1)


def _started(address: str | None) -> Any:
    """The module `ray`, connected to its cluster or to a new one of this machine. Raises BatchStopped."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # It calls an error that each actor which may be restarted needs its arguments.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise BatchStopped(
            f"--engine ray needs {error.name}, which is not installed: "
            "install it with: pip install 'video-scene-graph[ray]'"
        ) from error
    place = address or os.environ.get("RAY_ADDRESS")
    new: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(
            address=place or "local",
            logging_level=logging.WARNING,
            log_to_driver=False,
            **({} if place else new),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BatchStopped(
            f"Ray at {place or 'this machine'} does not answer ({' '.join(str(error).split())[:200]}): "
            "correct --address or RAY_ADDRESS, or start it first with `ray start --head`"
        ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray

"""Runs a batch from its source to its archive, and goes on with one that was stopped."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow.compute as pc

from service.archive.compaction import ENOUGH_FILES, compact, forget
from service.archive.folder import ArchiveFolder
from service.archive.reading import finished, read_table
from service.batch.cluster import run_on_ray
from service.batch.errors import BatchStopped
from service.batch.listing import ListedVideo, Shard
from service.batch.local import run_locally
from service.batch.making import Outcome, Setup
from service.loading import runs_on_gpu
from service.settings import Settings

RunsOn = Literal["local", "ray"]


@dataclass
class Summary:
    """The figures of a batch.

    listed: videos of the source, or of the shard of it.
    done_before: those of them that the archive had.
    graphs: made by this run.
    problems: number of videos without a graph, by the code of the error.
    seconds: that this run took.
    """

    listed: int
    done_before: int
    graphs: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def left(self) -> int:
        """Number of videos that are not done."""
        return self.listed - self.done_before - self.graphs - self.problems.total()

    def add(self, outcome: Outcome) -> None:
        """Counts an outcome."""
        if outcome.problem is None:
            self.graphs += 1
        else:
            self.problems[outcome.problem] += 1

    def in_words(self) -> str:
        """The summary in two lines or three."""
        made = self.graphs + self.problems.total()
        rate = f", {made / self.seconds:.2f} a second" if made and self.seconds else ""
        lines = [
            f"{self.listed} videos: {self.done_before} done before, {self.graphs} graphs made, "
            f"{self.problems.total()} with a problem, {self.left} left",
            f"{self.seconds:.1f} s{rate}",
        ]
        if self.problems:
            lines.append(", ".join(f"{code}: {count}" for code, count in self.problems.most_common()))
        return "\n".join(lines)


@dataclass(frozen=True)
class Plan:
    """A batch that can begin.

    setup: what each of its processes needs.
    todo: the videos that the archive has not.
    listed: number of videos of the source, or of the shard of it.
    """

    setup: Setup
    todo: Sequence[ListedVideo]
    listed: int
    done_before: int


def plan(
    setup: Setup,
    videos: Sequence[ListedVideo],
    *,
    shard: Shard | None = None,
    limit: int | None = None,
    retries_problems: bool = False,
) -> Plan:
    """Makes the archive where there is none, and finds out which videos it has not.

    A video is done when the archive has a row with its path, etag, options and model.

    shard: the part of the videos to do.
    limit: most videos to do now.
    retries_problems: whether videos that have a problem are done again.

    Raises ArchiveError and what the archive's store raises.
    """
    folder = ArchiveFolder(setup.archive)
    folder.make()
    forget(folder, _with_problems(folder) if retries_problems else ())
    done = finished(folder)
    mine = [video for video in videos if shard is None or shard.has(video)]
    todo = [video for video in mine if setup.source_of(video).video not in done]
    return Plan(setup, todo[:limit], len(mine), len(mine) - len(todo))


def run(
    planned: Plan,
    *,
    runs_on: RunsOn = "local",
    processes: int | None = None,
    address: str | None = None,
    progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Does what is left of a batch, and compacts the archive. A video that has a problem stops nothing.

    processes: that hold a model each; by default one a core, or one where the model runs on a GPU.
    address: of Ray's cluster.
    progress: is called after each video.

    Raises BatchStopped where it cannot go on. All that is done by then is in the archive.
    """
    summary = Summary(planned.listed, planned.done_before)
    folder = ArchiveFolder(planned.setup.archive)
    began = time.monotonic()
    if planned.todo:
        outcomes = _outcomes(planned, runs_on, processes, address)
        try:
            for number, outcome in enumerate(outcomes, 1):
                if outcome.stops is not None:
                    raise BatchStopped(outcome.stops)
                summary.add(outcome)
                summary.seconds = time.monotonic() - began
                progress(summary)
                if number % ENOUGH_FILES == 0:
                    compact(folder)
        finally:
            outcomes.close()
    compact(folder)
    return summary


def _outcomes(
    planned: Plan, runs_on: RunsOn, processes: int | None, address: str | None
) -> Generator[Outcome, None, None]:
    if runs_on == "ray":
        return run_on_ray(planned.setup, planned.todo, processes=processes, address=address)
    return run_locally(planned.setup, planned.todo, processes=processes or default_processes(planned.setup.settings))


def default_processes(settings: Settings) -> int:
    """The number of processes that hold a model on this machine, unless the user says so."""
    return 1 if runs_on_gpu(settings.engine) else len(os.sched_getaffinity(0))


def _with_problems(folder: ArchiveFolder) -> list[str]:
    rows = read_table(folder, "videos")
    # Posted videos have no path: they cannot be made again from here.
    again = rows.filter(pc.and_(pc.is_valid(rows["problem"]), pc.is_valid(rows["path"])))
    keys: list[str] = again["video"].to_pylist()
    return keys

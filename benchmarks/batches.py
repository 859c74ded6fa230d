"""Checks that `vsg batch` loses and doubles nothing, whatever is killed and whatever runs full.

    .venv/bin/python -m benchmarks.batches [--videos 300] [--engine local] [--engine ray] [--kill-seconds 5] [--json]

It cuts short clips, all different, from docs/puppets.mp4, and adds a file that is no video. `vsg graph` makes the graph
of each. Then, with each engine, a batch writes them to an archive: a worker is killed with SIGKILL every five seconds
(on a busy machine give more, or no worker lives long enough to begin), and the driver after a third and after two
thirds of the videos; it is run again each time. Another batch writes to a disk that is full after a third, which is
then made larger. Each time the archive must have one row a video, and all of its rows must be those of `vsg graph`;
compaction must change none. Otherwise the program exits with 1.

It needs a checkout, because it uses helpers of the tests, and the right to mount a tmpfs for the full disk.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

import av
import numpy as np
import psutil
import pyarrow as pa

from benchmarks.errors import BenchError
from service.archive.compaction import compact
from service.archive.folder import TABLE_NAMES, ArchiveFolder
from service.archive.reading import finished, read_table
from service.archive.tables import Rows, Source, graph_rows
from service.commands.graph import graph as graph_command
from service.graph import GraphReader
from tests.support.paths import ROOT
from tests.support.videos import write_frames

BUNDLE = ROOT / "bundles" / "arn-compact"
PATIENCE = 3600.0
CLIP_FRAMES, CLIP_RATE = 32, 16
_BATCH = "from service.commands.batch import batch; batch(prog_name='vsg batch')"
_BROKEN = "no_video.mp4"


@dataclass
class Tally:
    """The figures of one batch.

    runs: how often the driver was started.
    worker_kills, driver_kills: processes that were killed.
    rows: of videos, at the end.
    seconds: from the first start to the end.
    """

    engine: str
    runs: int = 0
    worker_kills: int = 0
    driver_kills: int = 0
    full: int = 0
    rows: int = 0
    seconds: float = 0.0


class Batch:
    """A driver process of `vsg batch`, and the processes that it starts."""

    def __init__(self, clips: Path, archive: Path, engine: str, log: Path) -> None:
        self._command = [
            *(sys.executable, "-c", _BATCH, str(clips), "--to", str(archive), "--engine", engine, "--frames"),
            *("--bundle", str(BUNDLE), "--fps", "4", "--processes", "2"),
        ]
        self._log = log

    def start(self) -> None:
        """Starts it, or goes on with it."""
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    @property
    def exit_code(self) -> int | None:
        """The code it has ended with; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Waits for its end, and returns the exit code."""
        return self._process.wait(PATIENCE)

    def kill(self) -> None:
        """Kills the driver."""
        self._process.kill()
        self._process.wait()

    def workers(self) -> list[psutil.Process]:
        """The processes that hold a model."""
        found = []
        with suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    command = " ".join(process.cmdline())
                    if ("spawn_main" in command and process.ppid() == self._process.pid) or "MapWorker" in command:
                        found.append(process)
        return found


def survive_kills(batch: Batch, folder: ArchiveFolder, videos: int, kill_seconds: float, tally: Tally) -> None:
    """Runs a batch to its end, while workers and driver are killed."""
    over = threading.Event()
    killer = threading.Thread(target=_kill_workers, args=(batch, over, kill_seconds, tally))
    began = time.monotonic()
    batch.start()
    tally.runs += 1
    killer.start()
    try:
        for part in (1, 2):
            while len(folder.names("videos")) == 0 or len(finished(folder)) < part * videos // 3:
                _require(batch.exit_code is None, f"the driver ended by itself: {batch.exit_code}")
                time.sleep(0.2)
            batch.kill()
            tally.driver_kills += 1
            batch.start()
            tally.runs += 1
        _require(batch.wait() == 0, "the last run failed")
    finally:
        over.set()
        killer.join()
        if batch.exit_code is None:
            batch.kill()
    tally.seconds = time.monotonic() - began


def survive_a_full_disk(batch: Batch, disk: Path, needed: int, tally: Tally) -> None:
    """Runs a batch on a disk that has room for a third of its archive, and again when it has more."""
    began = time.monotonic()
    batch.start()
    tally.runs += 1
    _require(batch.wait() == 1, "the driver does not say that the disk is full")
    tally.full += 1
    subprocess.run(["mount", "-o", f"remount,size={16 * needed}", str(disk)], check=True)
    batch.start()
    tally.runs += 1
    _require(batch.wait() == 0, "the second run failed")
    tally.seconds = time.monotonic() - began


def _kill_workers(batch: Batch, over: threading.Event, kill_seconds: float, tally: Tally) -> None:
    number = 0
    while not over.wait(kill_seconds):
        if workers := batch.workers():
            with suppress(psutil.Error):
                workers[number % len(workers)].send_signal(signal.SIGKILL)
                tally.worker_kills += 1
        number += 1


def make_clips(folder: Path, count: int) -> list[Path]:
    """Cuts clips from the video of puppets, each from another moment, and mirrors those of every second round."""
    with av.open(ROOT / "docs" / "puppets.mp4") as container:
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
    folder.mkdir()
    starts = len(frames) - CLIP_FRAMES
    clips = []
    for number in range(count):
        turn, start = divmod(number, starts)
        clip = frames[start : start + CLIP_FRAMES]
        clip = [np.clip(frame[:, ::-1] if turn % 2 else frame, turn, 255).astype(np.uint8) for frame in clip]
        clips.append(write_frames(folder / f"{number:04}.mp4", clip, rate=CLIP_RATE))
    (folder / _BROKEN).write_bytes(b"this is no video")
    return clips


def graphs_of(clips: Sequence[Path], folder: Path) -> dict[str, bytes]:
    """The JSON that `vsg graph` writes, by path of the video."""
    graphs = {}
    for clip in clips:  # its progress bar is not for this program's reader
        output = folder / f"{clip.stem}.json"
        arguments = [str(clip), "--output", str(output), "--bundle", str(BUNDLE), "--fps", "4"]
        with redirect_stderr(StringIO()):
            graph_command.main(arguments, standalone_mode=False)
        graphs[str(clip)] = output.read_bytes()
    return graphs


def check(folder: ArchiveFolder, graphs: dict[str, bytes]) -> int:
    """The number of rows in `videos`. Raises BenchError where a row is lost, double, or not that of `vsg graph`."""
    videos = read_table(folder, "videos")
    paths = videos["path"].to_pylist()
    _require(len(paths) == len(set(paths)) == len(graphs) + 1, f"{len(paths)} rows for {len(graphs) + 1} videos")
    found: Rows = {table: read_table(folder, table) for table in TABLE_NAMES}
    wanted: list[Rows] = []
    for row in videos.to_pylist():
        if row["path"].endswith(_BROKEN):
            _require(row["problem"] == "unsupported_media", f"{row['path']} has the problem {row['problem']}")
            continue
        _require(row["problem"] is None, f"{row['path']} has the problem {row['problem']}: {row['problem_detail']}")
        source = Source(row["video"], path=row["path"], etag=row["etag"], model_sha256=row["model_sha256"])
        wanted.append(graph_rows(GraphReader([graphs[row["path"]]]), source, with_frames=True))
    for table in TABLE_NAMES:
        rows = pa.concat_tables([of_video[table] for of_video in wanted])
        _require(_comparable(table, rows) == _comparable(table, found[table]), f"{table} differ from `vsg graph`")
    return len(paths)


def _comparable(table: str, rows: pa.Table) -> list[str]:
    """Rows without the time of their making, in an order of their own."""
    shown = rows.to_pylist()
    return sorted(
        json.dumps({name: value for name, value in row.items() if name != "made"}, sort_keys=True)
        for row in shown
        if table != "videos" or row["problem"] is None
    )


def run(folder: Path, count: int, engines: Sequence[str], kill_seconds: float) -> Iterator[Tally]:
    """Runs all batches, and yields the figures of each."""
    clips = make_clips(folder / "clips", count)
    graphs = graphs_of(clips, folder)
    _tell(f"{len(graphs)} graphs made")
    for engine in engines:
        log = folder / f"{engine}.log"
        with _shown_on_failure(log):
            tally = Tally(engine)
            archive = ArchiveFolder(folder / f"archive-{engine}")
            survive_kills(Batch(folder / "clips", Path(archive.url), engine, log), archive, count, kill_seconds, tally)
            tally.rows = check(archive, graphs)
            compact(archive)
            check(archive, graphs)
            needed = sum(path.stat().st_size for path in Path(archive.url).rglob("*.parquet"))
            yield tally
            tally = Tally(engine)
            with _disk(folder / f"disk-{engine}", size=max(count // 3, 4) * 48 << 10) as disk:
                archive = ArchiveFolder(disk / "archive")
                batch = Batch(folder / "clips", Path(archive.url), engine, log)
                survive_a_full_disk(batch, disk, max(needed, count * 64 << 10), tally)
                tally.rows = check(archive, graphs)
            yield tally


@contextmanager
def _disk(place: Path, *, size: int) -> Iterator[Path]:
    """A disk of its own with so many bytes."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def _shown_on_failure(log: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if log.exists():
            _tell(log.read_text(errors="replace")[-4000:])
        raise


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise BenchError(otherwise)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Runs the check and prints what was met."""
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--engine", choices=["local", "ray"], action="append")
    parser.add_argument("--kill-seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsg-batches-") as folder:
        try:
            for tally in run(
                Path(folder), arguments.videos, arguments.engine or ["local", "ray"], arguments.kill_seconds
            ):
                figures = asdict(tally) | {"seconds": round(tally.seconds, 1)}
                print(json.dumps(figures) if arguments.json else figures, flush=True)
        except BenchError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()

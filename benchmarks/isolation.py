"""Measures how long isolation makes decoding a video: `python -m benchmarks.isolation VIDEO`.

Two fork servers decode the same video in turns, with isolation and without, so that both meet the same machine.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from unittest.mock import patch

import click

from service.video import Sampling, VideoReader, reader
from service.video.processes import ForkServer

_WITHOUT = """
from service.video import child
class NoIsolation:
    gaps = {}
    def confine(self):
        pass
child.Isolation = NoIsolation
child.serve_forks()
"""
_SAMPLING = Sampling(fps=2.0, max_frames=20, height=128, width=160)


@click.command()
@click.argument("video", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--videos", default=200, show_default=True, type=click.IntRange(min=2), help="videos for each of the two")
def main(video: Path, videos: int) -> None:
    """Prints how long one video takes with isolation and without."""
    servers = {"with": ForkServer(), "without": ForkServer((sys.executable, "-P", "-s", "-c", _WITHOUT))}
    click.echo(f"layers that this machine lacks: {servers['with'].isolation_gaps() or 'none'}")
    servers["without"].isolation_gaps()  # waits until it runs
    taken: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(videos):
        for name in random.sample(list(servers), 2):
            taken[name].append(_milliseconds(servers[name], video))
    for name, server in servers.items():
        server.close()
        click.echo(
            f"{name:8} isolation: median {statistics.median(taken[name]):6.1f} ms, least {min(taken[name]):6.1f} ms"
        )
    pairs = [isolated - other for isolated, other in zip(taken["with"], taken["without"], strict=True)]
    click.echo(f"median of the differences: {statistics.median(pairs):.1f} ms a video")


def _milliseconds(server: ForkServer, video: Path) -> float:
    begin = time.perf_counter()
    with patch.object(reader, "FORK_SERVER", server), VideoReader(video, _SAMPLING) as frames:
        for _ in frames:
            pass
    return 1000 * (time.perf_counter() - begin)


if __name__ == "__main__":
    main()

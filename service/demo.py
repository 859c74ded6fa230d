"""`make demo`: serves the bundled model, posts a video with `vsg.Client`, and shows the answer."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from models.graph.scene_graph import SceneGraph
from vsg import Client, VsgError

START_SECONDS = 60.0
GRAPH_SECONDS = 120.0
SHOWN_FRAMES = 3
SHOWN_TRIPLETS = 5


def main() -> None:
    """Runs the demo. Exits with what is wrong where the service does not start or makes no graph."""
    parser = argparse.ArgumentParser(prog="python -m service.demo", description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--output", type=Path, default=Path("demo.json"))
    arguments = parser.parse_args()
    if not arguments.output.absolute().parent.is_dir():
        raise SystemExit(f"{arguments.output} cannot be written, there is no such folder: choose another file")
    with serving() as address, Client(address) as client:
        print(f"$ curl -F video=@{arguments.video} {address}/videos\n")
        try:
            graph = client.graph(arguments.video, timeout=GRAPH_SECONDS)
        except VsgError as error:
            raise SystemExit(f"the service makes no graph: {error}") from error
    arguments.output.write_text(graph.model_dump_json(indent=2) + "\n", encoding="utf-8")
    show(graph)
    print(f"\nThe whole graph is in {arguments.output}; `make serve` keeps the service running.")


@contextmanager
def serving() -> Iterator[str]:
    """Runs `vsg serve` on a free port and yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "service.command_line", "serve", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"VSG_LOG_LEVEL": "warning"})
    try:
        wait_until_ready(address, server)
        yield address
    finally:
        server.terminate()
        server.communicate(timeout=30)


def wait_until_ready(address: str, server: subprocess.Popen[str]) -> None:
    """Waits until the service takes work. Exits with the server's output where it ends before."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the service did not start:\n{server.stderr.read() if server.stderr else ''}")
        with suppress(httpx.HTTPError):
            httpx.get(f"{address}/health/ready").raise_for_status()
            return
        time.sleep(0.1)
    raise SystemExit(f"the service was not ready within {START_SECONDS:.0f} s")


def show(graph: SceneGraph) -> None:
    """Prints the triplets of the first frames that have any, and the prompt."""
    model = graph.model
    print(f"{len(graph.frames)} frames by {model.name} {model.version} on {model.engine}\n")
    telling = [frame for frame in graph.frames if frame.triplets]
    for frame in telling[:SHOWN_FRAMES]:
        names = {thing.id: f"{thing.label} {thing.id}" for thing in frame.objects}
        print(f"{frame.timestamp:.2f} s")
        for triplet in frame.triplets[:SHOWN_TRIPLETS]:
            print(f"  {triplet.score:.2f}  <{names[triplet.subject]}, {triplet.predicate}, {names[triplet.object]}>")
    print(f"\n{graph.prompt}")


if __name__ == "__main__":
    main()

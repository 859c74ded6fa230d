"""`make demo`: serves the bundled model, posts a video as any client would, and shows the answer.

The client uses only the standard library, so that its request can be read and copied.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 60.0
SHOWN_FRAMES = 3
SHOWN_TRIPLETS = 5


def main() -> int:
    """Runs the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m service.demo", description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--output", type=Path, default=Path("demo.json"))
    arguments = parser.parse_args()
    with serving() as address:
        print(f"$ curl -F video=@{arguments.video} {address}/videos\n")
        graph = post_video(address, arguments.video)
    arguments.output.write_text(json.dumps(graph, indent=2) + "\n")
    show(graph)
    print(f"\nThe whole graph is in {arguments.output}; `make serve` keeps the service running.")
    return 0


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
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


def wait_until_ready(address: str, server: subprocess.Popen[str]) -> None:
    """Waits until the service takes work. Exits with the server's output where it ends before."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the service did not start:\n{server.stderr.read() if server.stderr else ''}")
        try:
            with urllib.request.urlopen(f"{address}/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the service was not ready within {START_SECONDS:.0f} s")


def post_video(address: str, video: Path) -> dict[str, Any]:
    """Posts the file and waits for its graph. Exits with the service's answer where it fails."""
    request = urllib.request.Request(
        f"{address}/videos",
        data=video.read_bytes(),
        headers={"Content-Type": "video/mp4", "Prefer": "wait=60"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            graph: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"the service answered {error.code}: {error.read().decode()}") from error
    return graph


def show(graph: dict[str, Any]) -> None:
    """Prints the first frames' triplets and the prompt."""
    model = graph["model"]
    print(f"{len(graph['frames'])} frames by {model['name']} {model['version']} on {model['engine']}\n")
    for frame in graph["frames"][:SHOWN_FRAMES]:
        names = {thing["id"]: f"{thing['label']} {thing['id']}" for thing in frame["objects"]}
        print(f"{frame['timestamp']:.2f} s")
        for triplet in frame["triplets"][:SHOWN_TRIPLETS]:
            subject, target = names[triplet["subject"]], names[triplet["object"]]
            print(f"  {triplet['score']:.2f}  <{subject}, {triplet['predicate']}, {target}>")
    print(f"\n{graph['prompt']}")


if __name__ == "__main__":
    sys.exit(main())

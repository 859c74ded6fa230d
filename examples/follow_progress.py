"""Posts a video, follows its progress, and prints the prompt for a language model.

    .venv/bin/python examples/follow_progress.py docs/puppets.mp4 http://127.0.0.1:8000

Needs a service (`make serve`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from vsg import Client, ProblemError


def main(video: Path, address: str) -> None:
    """Prints a line whenever something has changed, then the prompt, or why there is none."""
    with Client(address) as client:
        video_id = client.submit(video).id
        for job in client.events(video_id):
            frames = f"{job.progress.frames} of {job.progress.expected} frames" if job.progress else ""
            print(f"{job.status} {frames}".rstrip())
        try:
            print(client.prompt(video_id))
        except ProblemError as problem:
            print(problem.detail)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

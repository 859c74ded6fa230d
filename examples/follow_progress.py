"""Posts a video, follows its progress by server-sent events, and prints the prompt for a language model.

    .venv/bin/python examples/follow_progress.py docs/puppets.mp4 http://127.0.0.1:8000

Needs a service (`make serve`) and httpx.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx


def main(video: Path, address: str) -> None:
    """Prints a line whenever something has changed, then the prompt."""
    with httpx.Client(base_url=address, timeout=60) as client:
        with video.open("rb") as file:
            posted = client.post("/videos", files={"video": file}, headers={"Prefer": "respond-async"})
        posted.raise_for_status()
        place = posted.headers["location"]
        for name, state in events(client, f"{place}/events"):
            progress = state.get("progress")
            frames = f"{progress['frames']} of {progress['expected']} frames" if progress else ""
            print(f"{name}: {state['status']} {frames}".rstrip())
        prompt = client.get(f"{place}/prompt")  # the reason, where the video has failed
        print(prompt.text if prompt.is_success else prompt.json()["detail"])


def events(client: httpx.Client, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of every event until `end`; a stream that breaks off before that is taken up again."""
    last_id = ""
    while True:
        try:
            with client.stream("GET", path, headers={"Last-Event-ID": last_id} if last_id else {}) as answer:
                answer.raise_for_status()
                event: dict[str, str] = {}
                for line in answer.iter_lines():
                    if line:
                        field, _, value = line.partition(": ")
                        event[field] = value  # a comment has an empty name
                    elif "data" in event:
                        last_id = event["id"]
                        yield event["event"], json.loads(event["data"])
                        if event["event"] == "end":
                            return
                        event = {}
        except httpx.TransportError:
            pass
        time.sleep(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

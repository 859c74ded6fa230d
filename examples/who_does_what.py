"""Posts a video, waits for its graph, and prints who does what and when.

    .venv/bin/python examples/who_does_what.py docs/puppets.mp4 http://127.0.0.1:8000

Needs a service (`make serve`) and httpx. Where the service wants a key, put it into the variable SCENE_GRAPH_KEY.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

LEAST_SCORE = 0.3


def main(video: Path, address: str) -> None:
    """Prints one line for each relation over time, best first."""
    key = os.environ.get("SCENE_GRAPH_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=address, headers=headers, timeout=660) as client:
        graph = graph_of(client, video)
    names = {thing["id"]: thing["label"] for frame in graph["frames"] for thing in frame["objects"]}
    for relation in sorted(graph["relations"], key=lambda relation: -relation["score"]):
        if relation["score"] >= LEAST_SCORE:
            subject, thing = names[relation["subject"]], names[relation["object"]]
            when = f"{relation['start']:5.1f} to {relation['end']:5.1f} s"
            print(f"{when}  {relation['score']:.2f}  {subject} {relation['predicate']} {thing}")
    print(f"\n{graph['prompt']}")


def graph_of(client: httpx.Client, video: Path) -> dict[str, Any]:
    """The graph; ends the program with the service's own words where there is none."""
    with video.open("rb") as file:
        answer = client.post("/videos", files={"video": file}, data={"fps": "2"}, headers={"Prefer": "wait=600"})
    while answer.is_success and answer.json()["status"] in ("queued", "running"):  # it takes longer than the wait
        time.sleep(2)
        answer = client.get(f"/videos/{answer.json()['id']}")
    if not answer.is_success:
        problem = answer.json()
        raise SystemExit(f"{problem['title']}: {problem['detail']} ({problem['code']})")
    graph: dict[str, Any] = answer.json()
    return graph


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

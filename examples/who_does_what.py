"""Posts a video, waits for its graph, and prints who does what and when.

    .venv/bin/python examples/who_does_what.py docs/puppets.mp4 http://127.0.0.1:8000

Needs a service (`make serve`). Where the service wants a key, put it into the variable SCENE_GRAPH_KEY.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vsg import Client, ProblemError, SceneGraph

LEAST_SCORE = 0.3


def main(video: Path, address: str) -> None:
    """Prints one line for each relation over time, best first, or why there is no graph."""
    with Client(address, key=os.environ.get("SCENE_GRAPH_KEY")) as client:
        try:
            show(client.graph(video, fps=2))
        except ProblemError as problem:
            raise SystemExit(f"{problem.title}: {problem.detail} ({problem.code})") from problem


def show(graph: SceneGraph) -> None:
    """Prints the relations and the prompt."""
    labels = {thing.id: thing.label for frame in graph.frames for thing in frame.objects}
    for relation in sorted(graph.relations, key=lambda relation: -relation.score):
        if relation.score >= LEAST_SCORE:
            subject, thing = labels[relation.subject], labels[relation.object]
            when = f"{relation.start:5.1f} to {relation.end:5.1f} s"
            print(f"{when}  {relation.score:.2f}  {subject} {relation.predicate} {thing}")
    print(f"\n{graph.prompt}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

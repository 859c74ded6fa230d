"""Makes the graph of a video without a service, keeps the relations that matter, and writes them for graph tools.

    .venv/bin/python examples/without_http.py docs/puppets.mp4 sttran-rs-net-compact kept.graphml

Needs the extra `cpu`: `pip install -c constraints.txt -e '.[cpu]'`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import networkx as nx

from vsg import open_model

LEAST_RELATION_SCORE = 0.6


def main(video: Path, bundle: str, output: Path) -> None:
    """Prints what each person has to do with each thing, the longest first."""
    with open_model(bundle) as model:
        scene = model(video, fps=4)

    # A model without a relation scorer gives no relation scores, and all of its relations are kept.
    kept = [
        relation
        for relation in scene.relations
        if relation.relation_score is None or relation.relation_score >= LEAST_RELATION_SCORE
    ]
    labels = {thing.id: thing.label for frame in scene.frames for thing in frame.objects}
    graph = nx.MultiDiGraph()
    seconds: defaultdict[tuple[int, str, int], float] = defaultdict(float)
    for relation in kept:
        for end in (relation.subject, relation.object):
            graph.add_node(end, label=labels[end])
        attributes = relation.model_dump(exclude={"subject", "object"}, exclude_none=True)
        graph.add_edge(relation.subject, relation.object, **attributes)
        seconds[relation.subject, relation.predicate, relation.object] += relation.end - relation.start
    nx.write_graphml(graph, output)

    print(f"{len(kept)} relations kept, {len(scene.relations) - len(kept)} left out")
    for (subject, predicate, thing), duration in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{duration:5.1f} s  {labels[subject]} {subject} {predicate} {labels[thing]} {thing}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

"""Makes the graph of a video without a service, keeps the relations that matter, and writes them for graph tools.

    .venv/bin/python examples/without_http.py docs/puppets.mp4 bundles/sttran-rs-net-compact kept.graphml

Needs the extra `cpu`: `pip install -c constraints.txt -e '.[cpu]'`.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing
from io import BytesIO
from pathlib import Path

import networkx as nx

from service.formats import formatted
from service.loading import open_pipeline
from service.options import VideoOptions
from service.settings import load_settings

LEAST_RELATION_SCORE = 0.6


def main(video: Path, bundle: Path, output: Path) -> None:
    """Prints what each person has to do with each thing, the longest first."""
    document = BytesIO()
    with closing(open_pipeline(load_settings(), bundles=[bundle])) as pipeline:
        pipeline.write(video, VideoOptions(fps=4), document)

    graphml = b"".join(formatted([document.getvalue()], "graphml"))
    graph = nx.read_graphml(BytesIO(graphml), node_type=int, force_multigraph=True)
    # A model without a relation scorer gives no relation scores, and all of its relations are kept.
    doubtful = [
        (subject, thing, key)
        for subject, thing, key, score in graph.edges(keys=True, data="relation_score", default=1.0)
        if score < LEAST_RELATION_SCORE
    ]
    graph.remove_edges_from(doubtful)
    graph.remove_nodes_from(list(nx.isolates(graph)))
    nx.write_graphml(graph, output)

    seconds: Counter[tuple[int, str, int]] = Counter()
    for subject, thing, relation in graph.edges(data=True):
        seconds[subject, relation["predicate"], thing] += relation["end"] - relation["start"]
    labels = nx.get_node_attributes(graph, "label")
    print(f"{graph.number_of_edges()} relations kept, {len(doubtful)} left out")
    for (subject, predicate, thing), duration in seconds.most_common():
        print(f"{duration:5.1f} s  {labels[subject]} {subject} {predicate} {labels[thing]} {thing}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))

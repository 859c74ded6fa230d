"""Videos to search, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from models.graph.scene_graph import Options
from models.graph.vocabulary import ACTION_GENOME, Vocabulary
from service.archive.tables import Rows, options_json, table_of

_OPTIONS = Options(fps=2, start=0, end=None, max_frames=100, min_score=0, top_k=20, constraint="with")


def video_rows(
    video: str,
    owner: str,
    path: str | None,
    relations: Sequence[tuple[str, str, float]],
    vocabulary: Vocabulary = ACTION_GENOME,
) -> Rows:
    """The rows of a video of 5 seconds with one person, who does something to things from second 1 to second 2.

    relations: predicate, label of the thing, and score.
    """
    shared = {"video": video, "owner": owner, "interval": 0.5}
    described = {
        "graph_id": f"graph-{video}",
        "path": path,
        "options": options_json(_OPTIONS),
        "vocabulary": TypeAdapter(Vocabulary).dump_json(vocabulary).decode(),
        "duration": 5.0,
        "frames": 10,
    }
    things = [(1, "person"), *((id, label) for id, (_, label, _) in enumerate(relations, 2))]
    seen = [shared | {"id": id, "label": label, "first": 0.0, "last": 5.0, "score": 0.9} for id, label in things]
    held = [
        shared
        | {"subject": 1, "subject_label": "person", "predicate": predicate, "object": id, "object_label": label}
        | {"start": 1.0, "end": 2.0, "score": score, "relation_score": None}
        for id, (predicate, label, score) in enumerate(relations, 2)
    ]
    return {
        "videos": table_of("videos", [shared | described]),
        "objects": table_of("objects", seen),
        "relations": table_of("relations", held),
    }
